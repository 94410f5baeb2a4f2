/* kernels.c - the list of kernel sets and the choice among them. The build defines NILM_KERNELS_X86
 * when the compiler can make the x86-64 sets, NILM_KERNELS_NEON and NILM_KERNELS_NEON_DOTPROD for
 * ARM's. */
#include "inference/kernels.h"

#include <errno.h>
#include <string.h>

static int always(void)
{
    return 1;
}

#ifdef NILM_KERNELS_X86
#include <cpuid.h>

/* The builtin asks the operating system, too, whether it saves the registers. */
static int has_avx2(void)
{
    return __builtin_cpu_supports("avx2") != 0;
}

/* Not all compilers' builtin knows this one: CPUID leaf 7, sub-leaf 1, EAX bit 4. */
static int has_avxvnni(void)
{
    unsigned a, b, c, d;

    return has_avx2() && __get_cpuid_count(7, 0, &a, &b, &c, &d) && a >= 1 &&
           __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & 1u << 4);
}

static int has_avx512vnni(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vnni");
}
#endif

#ifdef NILM_KERNELS_NEON
#include <sys/auxv.h>

/* The kernel's words for what it saves and programs may use: asm/hwcap.h of either ARM. */
#ifdef __aarch64__
#define HAS_NEON (1u << 1)
#define HAS_DOTPROD (1u << 20)
#else
#define HAS_NEON (1u << 12)
#endif

static int has_neon(void)
{
    return (getauxval(AT_HWCAP) & HAS_NEON) != 0;
}

#ifdef NILM_KERNELS_NEON_DOTPROD
static int has_neon_dotprod(void)
{
    return has_neon() && (getauxval(AT_HWCAP) & HAS_DOTPROD) != 0;
}
#endif
#endif

/* Slowest first. */
static const struct {
    const struct kernels *kernels;
    int (*available)(void);
} sets[] = {
    {&kernels_scalar, always},
#ifdef NILM_KERNELS_X86
    {&kernels_avx2, has_avx2},
    {&kernels_avxvnni, has_avxvnni},
    {&kernels_avx512vnni, has_avx512vnni},
#endif
#ifdef NILM_KERNELS_NEON
    {&kernels_neon, has_neon},
#endif
#ifdef NILM_KERNELS_NEON_DOTPROD
    {&kernels_neon_dotprod, has_neon_dotprod},
#endif
};

int kernels_select(const char *name, const struct kernels **out)
{
    const struct kernels *chosen = NULL;

    for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++)
        if ((!name || !*name || strcmp(name, sets[i].kernels->name) == 0) && sets[i].available())
            chosen = sets[i].kernels;
    *out = chosen;
    return chosen ? 0 : -ENOTSUP;
}
