/* Loaded into VBoxManage (LD_PRELOAD). One call in sixty of VirtualBox 7.2's ends ten seconds late, all done: at its exit
   it waits for a thread of its request pool, which has missed the signal and sleeps on (RTReqPoolRelease). With short
   sleeps that thread looks for itself. */
#define _GNU_SOURCE
#include <dlfcn.h>

enum { LONGEST = 200 }; /* milliseconds */

int RTThreadUserWait(void *thread, unsigned milliseconds)
{
    static int (*real)(void *, unsigned);
    if (!real)
        real = (int (*)(void *, unsigned))dlsym(RTLD_NEXT, "RTThreadUserWait");
    return real(thread, milliseconds > LONGEST ? LONGEST : milliseconds);
}
