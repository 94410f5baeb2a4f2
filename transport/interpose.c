/* interpose.c - the process's connect(): channels for Paho, the system call for everybody else
 * (channel.h).
 *
 * The dynamic linker resolves libpaho's connect to this one, since a program's own symbols come
 * before libc's (System V ABI, symbol resolution). channel_open checks that it is so. Compiled
 * without _GNU_SOURCE, under which glibc declares connect with a transparent union that a
 * definition cannot repeat portably.
 */
#undef _GNU_SOURCE
#define _DEFAULT_SOURCE
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "transport/channel.h"

__attribute__((visibility("default"), used)) int connect(int fd, const struct sockaddr *address,
                                                         socklen_t size)
{
    struct sockaddr_in in;
    if (size >= sizeof in && address && address->sa_family == AF_INET) {
        memcpy(&in, address, sizeof in);
        if (ntohl(in.sin_addr.s_addr) == CHANNEL_ADDRESS)
            return channel_attach(fd, ntohs(in.sin_port));
    }
    return (int)syscall(SYS_connect, fd, address, size);
}

int channel_is_connect(const void *symbol)
{
    int (*ours)(int, const struct sockaddr *, socklen_t) = connect;
    return memcmp(&ours, &symbol, sizeof symbol) == 0; /* C has no cast between the two */
}
