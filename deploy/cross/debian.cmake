# debian.cmake - cross-compiling with Debian's compiler against the libraries that sysroot.sh has unpacked. Included by
# arm64.cmake and armhf.cmake, which set arch, triple, processor and emulator.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR ${processor})
get_filename_component(sysroot ${CMAKE_CURRENT_LIST_DIR}/../../build/sysroot-${arch} ABSOLUTE)
if(NOT EXISTS ${sysroot}/.packages)
  message(FATAL_ERROR "${sysroot} is not there: run deploy/cross/sysroot.sh ${arch} first")
endif()
set(CMAKE_SYSROOT ${sysroot})
set(CMAKE_C_COMPILER ${triple}-gcc)
set(CMAKE_LIBRARY_ARCHITECTURE ${triple})
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(ENV{PKG_CONFIG_SYSROOT_DIR} ${sysroot})
set(ENV{PKG_CONFIG_LIBDIR} ${sysroot}/usr/lib/${triple}/pkgconfig:${sysroot}/usr/share/pkgconfig)
# ctest runs the programs with this.
set(CMAKE_CROSSCOMPILING_EMULATOR ${emulator} -L ${sysroot})
