/* The calls of NVIDIA's driver that nightlab_cuda.py makes, over host memory: for machines without a GPU.

   It is stricter than the real one where that finds mistakes: addresses that nobody mapped or gave access to are
   refused, and copies wait for cuCtxSynchronize. STAND_IN_BYTES in the environment is how much memory the device
   has. Build: cc -shared -fPIC -o libcuda.so.1 cuda_stand_in.c */

#define _GNU_SOURCE
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* types: those of cuda.h that are needed */
typedef enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, INVALID_CONTEXT = 201 } CUresult;
typedef int CUdevice;
typedef unsigned long long CUdeviceptr, CUmemGenericAllocationHandle;
typedef struct CUctx_st *CUcontext;
typedef enum { ANY_HANDLE_TYPE } CUmemAllocationHandleType;
typedef enum { ANY_GRANULARITY } CUmemAllocationGranularity_flags;
typedef struct { int type, id; } CUmemLocation;
typedef struct {
    int type, requestedHandleTypes;
    CUmemLocation location;
    void *win32HandleMetaData;
    struct { unsigned char compressionType, gpuDirectRDMACapable; unsigned short usage; unsigned char reserved[4]; } allocFlags;
} CUmemAllocationProp;
typedef struct { CUmemLocation location; int flags; } CUmemAccessDesc;
/* end of types */

#define STEP (2u << 20)
#define MOST 64

static int initialised, current;
static struct { CUdeviceptr at; size_t size; int usable; } ranges[MOST];
static struct { CUdeviceptr to, from; size_t size; void *staged; } queue[MOST];
static int queued;

CUresult cuInit(unsigned int flags) { initialised = 1; return flags ? INVALID_VALUE : OK; }

CUresult cuDeviceGet(CUdevice *device, int ordinal) {
    if (!initialised) return NOT_INITIALIZED;
    *device = 0;
    return ordinal ? INVALID_VALUE : OK;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
    *context = (CUcontext)&current;
    return device ? INVALID_VALUE : OK;
}

CUresult cuCtxSetCurrent(CUcontext context) {
    if (context != (CUcontext)&current) return INVALID_CONTEXT;
    current = 1;
    return OK;
}

CUresult cuCtxSynchronize(void) {
    if (!current) return INVALID_CONTEXT;
    for (int n = 0; n < queued; n++) {
        memcpy((void *)(uintptr_t)queue[n].to, queue[n].staged ? queue[n].staged : (void *)(uintptr_t)queue[n].from, queue[n].size);
        free(queue[n].staged);
    }
    queued = 0;
    return OK;
}

static int wrong(const CUmemAllocationProp *p) {
    return !current || p->type != 1 || p->requestedHandleTypes != 1 || p->location.type != 1 || p->location.id ||
           p->win32HandleMetaData || p->allocFlags.compressionType || p->allocFlags.gpuDirectRDMACapable || p->allocFlags.usage;
}

CUresult cuMemGetAllocationGranularity(size_t *step, const CUmemAllocationProp *properties, CUmemAllocationGranularity_flags option) {
    *step = STEP;
    return wrong(properties) || option ? INVALID_VALUE : OK;
}

CUresult cuMemCreate(CUmemGenericAllocationHandle *handle, size_t size, const CUmemAllocationProp *properties, unsigned long long flags) {
    const char *most = getenv("STAND_IN_BYTES");
    if (wrong(properties) || flags || !size || size % STEP) return INVALID_VALUE;
    if (most && size > strtoull(most, NULL, 10)) return OUT_OF_MEMORY;
    int fd = memfd_create("device", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)size)) return OUT_OF_MEMORY;
    *handle = (CUmemGenericAllocationHandle)fd;
    return OK;
}

CUresult cuMemExportToShareableHandle(void *out, CUmemGenericAllocationHandle handle, CUmemAllocationHandleType type, unsigned long long flags) {
    *(int *)out = dup((int)handle);
    return type != 1 || flags || *(int *)out < 0 ? INVALID_VALUE : OK;
}

CUresult cuMemImportFromShareableHandle(CUmemGenericAllocationHandle *handle, void *descriptor, CUmemAllocationHandleType type) {
    int fd = dup((int)(uintptr_t)descriptor);
    *handle = (CUmemGenericAllocationHandle)fd;
    return !current || type != 1 || fd < 0 ? INVALID_VALUE : OK;
}

CUresult cuMemRelease(CUmemGenericAllocationHandle handle) { return close((int)handle) ? INVALID_VALUE : OK; }

CUresult cuMemAddressReserve(CUdeviceptr *at, size_t size, size_t alignment, CUdeviceptr wish, unsigned long long flags) {
    if (alignment || wish || flags || size % STEP) return INVALID_VALUE;
    void *there = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    *at = (CUdeviceptr)(uintptr_t)there;
    return there == MAP_FAILED ? OUT_OF_MEMORY : OK;
}

CUresult cuMemAddressFree(CUdeviceptr at, size_t size) { return munmap((void *)(uintptr_t)at, size) ? INVALID_VALUE : OK; }

CUresult cuMemMap(CUdeviceptr at, size_t size, size_t offset, CUmemGenericAllocationHandle handle, unsigned long long flags) {
    struct stat found;
    if (offset || flags || fstat((int)handle, &found) || (size_t)found.st_size != size) return INVALID_VALUE;
    if (mmap((void *)(uintptr_t)at, size, PROT_NONE, MAP_SHARED | MAP_FIXED, (int)handle, 0) == MAP_FAILED) return INVALID_VALUE;
    for (int n = 0; n < MOST; n++)
        if (!ranges[n].size) { ranges[n].at = at; ranges[n].size = size; ranges[n].usable = 0; return OK; }
    return OUT_OF_MEMORY;
}

CUresult cuMemUnmap(CUdeviceptr at, size_t size) {
    for (int n = 0; n < MOST; n++)
        if (ranges[n].at == at && ranges[n].size == size) {
            ranges[n].size = 0;
            mmap((void *)(uintptr_t)at, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
            return OK;
        }
    return INVALID_VALUE;
}

CUresult cuMemSetAccess(CUdeviceptr at, size_t size, const CUmemAccessDesc *who, size_t count) {
    if (count != 1 || who->location.type != 1 || who->location.id || who->flags != 3) return INVALID_VALUE;
    for (int n = 0; n < MOST; n++)
        if (ranges[n].at == at && ranges[n].size == size) {
            ranges[n].usable = !mprotect((void *)(uintptr_t)at, size, PROT_READ | PROT_WRITE);
            return OK;
        }
    return INVALID_VALUE;
}

static int mapped(CUdeviceptr at, size_t size) {
    for (int n = 0; n < MOST; n++)
        if (ranges[n].usable && ranges[n].size && at >= ranges[n].at && at - ranges[n].at + size <= ranges[n].size) return 1;
    return 0;
}

static CUresult later(CUdeviceptr to, CUdeviceptr from, void *staged, size_t size) {
    if (!current || queued == MOST || !mapped(to, size)) return INVALID_VALUE;
    queue[queued].to = to, queue[queued].from = from, queue[queued].staged = staged, queue[queued].size = size;
    queued++;
    return OK;
}

CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t size) {
    void *staged = malloc(size + 1);
    return later(to, 0, memcpy(staged, from, size), size);
}

CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t size) {
    return mapped(from, size) ? later(to, from, NULL, size) : INVALID_VALUE;
}

CUresult cuGetErrorName(CUresult error, const char **name) {
    *name = error == INVALID_VALUE     ? "CUDA_ERROR_INVALID_VALUE"
            : error == OUT_OF_MEMORY   ? "CUDA_ERROR_OUT_OF_MEMORY"
            : error == NOT_INITIALIZED ? "CUDA_ERROR_NOT_INITIALIZED"
                                       : "CUDA_ERROR_INVALID_CONTEXT";
    return OK;
}
