# arm64.cmake - 64-bit ARM gateways (Debian arm64, any ARMv8-A).
set(arch arm64)
set(triple aarch64-linux-gnu)
set(processor aarch64)
set(emulator qemu-aarch64)
include(${CMAKE_CURRENT_LIST_DIR}/debian.cmake)
