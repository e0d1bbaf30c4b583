/* Opens a CUDA library at the first call of one of its functions; a library that is not there
   answers every call with its own "not initialised" status. STATUS, SONAME, LOOKUP, SLOTS, NAMES and
   TEXT come from the command line and from names.h, which are written with the stand-ins. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>

#include "names.h"

extern void *SLOTS[];

static void *library;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void open_library(void) { library = dlopen(SONAME, RTLD_NOW | RTLD_GLOBAL); }
static int missing(void) { return STATUS; }
static const char *missing_text(void) { return SONAME " cannot be loaded"; }

__attribute__((visibility("hidden"))) void *LOOKUP(long i) {
    pthread_once(&once, open_library);
    void *function = library ? dlsym(library, names[i].name) : NULL;
    if (!function) function = names[i].text ? (void *)missing_text : (void *)missing;
    return SLOTS[i] = function;
}
