# armhf.cmake - 32-bit ARM gateways (Debian armhf: ARMv7-A with VFPv3-D16; NEON is looked for at run time).
set(arch armhf)
set(triple arm-linux-gnueabihf)
set(processor armv7l)
set(emulator qemu-arm)
include(${CMAKE_CURRENT_LIST_DIR}/debian.cmake)
