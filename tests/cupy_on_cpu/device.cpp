// A CUDA device in software, for CuPy on machines without a GPU: what CuPy calls of libcuda, libcudart, libnvrtc, libcublas and libcurand, in
// one library. README.md says what it is good for and what it cannot show.
//
// Device memory is host memory between pages that nobody may touch. Work is done when it is given, or, with NPUNET_DEVICE_LATE=1, as late as
// CUDA's rules allow: then whoever forgets to wait reads what is not there yet. A stream that captures writes its work down instead.
// Kernels are shared libraries that compile_kernel.py made of the CUDA source; tests/cuda_on_cpu.h runs their threads.
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <sstream>
#include <string>
#include <vector>
#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xmmintrin.h>
#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>
#include <cuda_runtime_api.h>

typedef std::function<void()> Work;
static std::recursive_mutex mutex;
#define ONE_AT_A_TIME std::lock_guard<std::recursive_mutex> guard(mutex)
static long asked(const char* name, long otherwise) { const char* text = getenv(name); return text && *text ? atol(text) : otherwise; }
static const bool late = asked("NPUNET_DEVICE_LATE", 0);
static const long capability = asked("NPUNET_DEVICE_CAPABILITY", 90), count = asked("NPUNET_DEVICE_COUNT", 1);
static const long driver = asked("NPUNET_DEVICE_DRIVER", 13000), memory = asked("NPUNET_DEVICE_MEMORY", 8L << 30);
static long elsewhere = asked("NPUNET_DEVICE_OTHERS", 500L << 20);             // memory in use by others
static thread_local int device = 0;

// ------------------------------------------------------------------ streams, events, graphs

struct CUstream_st {
    bool waits_for_legacy;                      // neither the legacy stream itself nor a non-blocking one
    std::deque<Work> waiting;
    std::shared_ptr<std::vector<Work>> captured; // while it captures
    bool relaxed, broken;
};
struct CUevent_st { CUstream_st* stream; bool pending, asked_for; std::chrono::steady_clock::time_point time; };
struct CUgraph_st { std::vector<Work> work; };
struct CUgraphExec_st { std::vector<Work> work; };
static CUstream_st legacy{false};
static std::vector<CUstream_st*> streams{&legacy};

static CUstream_st& of(cudaStream_t stream) { return (unsigned long)stream <= 2 ? legacy : *stream; }      // 0, 1: legacy; 2: of the thread
static void finish(CUstream_st& stream) {
    while (!stream.waiting.empty()) { Work work = stream.waiting.front(); stream.waiting.pop_front(); work(); }
}
static void finish_all() { for (auto* stream : streams) finish(*stream); }
static cudaError_t broken_by(CUstream_st& stream, cudaError_t why) { stream.broken = true; return why; }
static cudaError_t legacy_may_work() {          // not while a stream captures that would have to wait for it
    for (auto* stream : streams) if (stream->captured && stream->waits_for_legacy) return broken_by(*stream, cudaErrorStreamCaptureImplicit);
    return cudaSuccess;
}
static cudaError_t may_wait_for_all() {
    for (auto* stream : streams) if (stream->captured) return broken_by(*stream, cudaErrorStreamCaptureUnsupported);
    return cudaSuccess;
}
static cudaError_t may_allocate() {
    for (auto* stream : streams) if (stream->captured && !stream->relaxed) return broken_by(*stream, cudaErrorStreamCaptureUnsupported);
    return cudaSuccess;
}
static cudaError_t give(cudaStream_t to, Work work) {
    CUstream_st& stream = of(to);
    if (stream.captured) { stream.captured->push_back(work); return cudaSuccess; }
    if (&stream == &legacy) {
        if (cudaError_t error = legacy_may_work()) return error;
        for (auto* other : streams) if (other->waits_for_legacy) finish(*other);
    } else if (stream.waits_for_legacy) finish(legacy);
    if (late) stream.waiting.push_back(work); else work();
    return cudaSuccess;
}

extern "C" {
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
    ONE_AT_A_TIME;
    streams.push_back(*stream = new CUstream_st{!(flags & cudaStreamNonBlocking)});
    return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, 0); }
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int) { return cudaStreamCreateWithFlags(stream, flags); }
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    ONE_AT_A_TIME;
    finish(*stream);
    std::erase(streams, stream);
    delete stream;
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    ONE_AT_A_TIME;
    if (of(stream).captured) return broken_by(of(stream), cudaErrorStreamCaptureUnsupported);
    if (&of(stream) == &legacy) {
        if (cudaError_t error = legacy_may_work()) return error;
        for (auto* other : streams) if (other->waits_for_legacy) finish(*other);
    }
    finish(of(stream));
    return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
    ONE_AT_A_TIME;
    if (of(stream).captured) return broken_by(of(stream), cudaErrorStreamCaptureUnsupported);
    bool done = of(stream).waiting.empty();
    finish(of(stream));
    return done ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaDeviceSynchronize() {
    ONE_AT_A_TIME;
    if (cudaError_t error = may_wait_for_all()) return error;
    finish_all();
    return cudaSuccess;
}
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t call, void* with) { ONE_AT_A_TIME; return give(stream, [=] { call(with); }); }
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
    ONE_AT_A_TIME;
    if (&of(stream) == &legacy) return cudaErrorStreamCaptureUnsupported;
    if (of(stream).captured) return cudaErrorIllegalState;
    finish(of(stream));
    of(stream).captured = std::make_shared<std::vector<Work>>();
    of(stream).relaxed = mode == cudaStreamCaptureModeRelaxed;
    of(stream).broken = false;
    return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
    ONE_AT_A_TIME;
    auto captured = of(stream).captured;
    *graph = nullptr;
    if (!captured) return cudaErrorIllegalState;
    of(stream).captured.reset();
    if (of(stream).broken) return cudaErrorStreamCaptureInvalidated;
    *graph = new CUgraph_st{*captured};
    return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
    ONE_AT_A_TIME;
    if (&of(stream) == &legacy) { *status = cudaStreamCaptureStatusNone; return legacy_may_work(); }
    *status = !of(stream).captured ? cudaStreamCaptureStatusNone
              : of(stream).broken ? cudaStreamCaptureStatusInvalidated : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) { *exec = new CUgraphExec_st{graph->work}; return cudaSuccess; }
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaGraphDestroy(cudaGraph_t graph) { delete graph; return cudaSuccess; }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) { ONE_AT_A_TIME; finish_all(); delete exec; return cudaSuccess; }
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) { ONE_AT_A_TIME; return give(stream, [exec] { for (auto& work : exec->work) work(); }); }

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) { *event = new CUevent_st{}; return cudaSuccess; }
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }
cudaError_t cudaEventSynchronize(cudaEvent_t event) { ONE_AT_A_TIME; if (event->pending) finish(*event->stream); return cudaSuccess; }
cudaError_t cudaEventDestroy(cudaEvent_t event) { cudaEventSynchronize(event); delete event; return cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    ONE_AT_A_TIME;
    event->stream = &of(stream); event->pending = !of(stream).captured; event->asked_for = false;
    return give(stream, [event] { event->pending = false; event->time = std::chrono::steady_clock::now(); });
}
cudaError_t cudaEventQuery(cudaEvent_t event) {      // not yet; but whoever asks again finds it done
    ONE_AT_A_TIME;
    if (event->pending && event->asked_for) finish(*event->stream);
    event->asked_for = true;
    return event->pending ? cudaErrorNotReady : cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t start, cudaEvent_t stop) {
    if (start->pending || stop->pending) return cudaErrorNotReady;
    *ms = std::chrono::duration<float, std::milli>(stop->time - start->time).count();
    return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t event, unsigned) { return cudaEventSynchronize(event); }
}

// ------------------------------------------------------------------ memory

struct Piece { size_t bytes; char* pages; size_t mapped; };
static std::map<char*, Piece> on_device, pinned;
static const size_t PAGE = 4096, GRAIN = 512;
static size_t in_use() { size_t sum = 0; for (auto& piece : on_device) sum += piece.second.bytes; return sum; }
static bool lies_in(std::map<char*, Piece>& pieces, const void* place, size_t bytes) {
    auto after = pieces.upper_bound((char*)place);
    return after != pieces.begin() && (--after, (char*)place + bytes <= after->first + after->second.bytes);
}
static cudaError_t copy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream, bool wait) {
    if (!bytes) return cudaSuccess;
    bool device_to = lies_in(on_device, to, bytes), device_from = lies_in(on_device, from, bytes);
    if (kind != cudaMemcpyDefault && (device_to != (kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice) ||
                                      device_from != (kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice))) return cudaErrorInvalidValue;
    bool pageable = !(device_to || lies_in(pinned, to, bytes)) || !(device_from || lies_in(pinned, from, bytes));
    if (of(stream).captured && pageable) return broken_by(of(stream), cudaErrorStreamCaptureUnsupported);
    cudaError_t error = give(stream, [=] { std::memmove(to, from, bytes); });
    if (!error && (wait || pageable)) error = cudaStreamSynchronize(stream);
    return error;
}

extern "C" {
cudaError_t cudaMalloc(void** place, size_t bytes) {
    ONE_AT_A_TIME;
    if (cudaError_t error = may_allocate()) return error;
    size_t rounded = (bytes + GRAIN - 1) / GRAIN * GRAIN, inside = (rounded + PAGE - 1) / PAGE * PAGE;
    if (in_use() + rounded + elsewhere > (size_t)memory) return cudaErrorMemoryAllocation;
    char* pages = (char*)mmap(nullptr, inside + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pages == MAP_FAILED || mprotect(pages + PAGE, inside, PROT_READ | PROT_WRITE)) return cudaErrorMemoryAllocation;
    char* start = pages + PAGE + inside - rounded;                              // its end lies before the second forbidden page
    if (rounded < (64 << 20)) std::memset(start, 0xff, rounded);                // NaN
    on_device[start] = {rounded, pages, inside + 2 * PAGE};
    *place = start;
    return cudaSuccess;
}
cudaError_t cudaFree(void* place) {
    ONE_AT_A_TIME;
    if (!place) return cudaSuccess;
    if (!on_device.count((char*)place)) return cudaErrorInvalidValue;
    finish_all();
    munmap(on_device[(char*)place].pages, on_device[(char*)place].mapped);
    on_device.erase((char*)place);
    return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) { ONE_AT_A_TIME; *total = memory; *free = memory - elsewhere - in_use(); return cudaSuccess; }
cudaError_t cudaHostAlloc(void** place, size_t bytes, unsigned) {
    ONE_AT_A_TIME;
    if (cudaError_t error = may_allocate()) return error;
    if (posix_memalign(place, PAGE, bytes)) return cudaErrorMemoryAllocation;
    pinned[(char*)*place] = {bytes};
    return cudaSuccess;
}
cudaError_t cudaFreeHost(void* place) { ONE_AT_A_TIME; finish_all(); pinned.erase((char*)place); free(place); return cudaSuccess; }
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) { ONE_AT_A_TIME; return copy(to, from, bytes, kind, 0, true); }
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) { ONE_AT_A_TIME; return copy(to, from, bytes, kind, stream, false); }
cudaError_t cudaMemsetAsync(void* place, int value, size_t bytes, cudaStream_t stream) { ONE_AT_A_TIME; return give(stream, [=] { std::memset(place, value, bytes); }); }
cudaError_t cudaMemset(void* place, int value, size_t bytes) { return cudaMemsetAsync(place, value, bytes, 0); }
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* about, const void* place) {
    ONE_AT_A_TIME;
    *about = {};
    about->type = lies_in(on_device, place, 1) ? cudaMemoryTypeDevice : lies_in(pinned, place, 1) ? cudaMemoryTypeHost : cudaMemoryTypeUnregistered;
    (about->type == cudaMemoryTypeDevice ? about->devicePointer : about->hostPointer) = (void*)place;
    return cudaSuccess;
}

// ------------------------------------------------------------------ the device and its driver

const char* cudaGetErrorName(cudaError_t error) {
    switch ((int)error) {
#define NAME(name) case name: return #name;
        NAME(cudaErrorInvalidValue) NAME(cudaErrorMemoryAllocation) NAME(cudaErrorInsufficientDriver) NAME(cudaErrorNoDevice) NAME(cudaErrorInvalidDevice)
        NAME(cudaErrorStreamCaptureUnsupported) NAME(cudaErrorStreamCaptureInvalidated) NAME(cudaErrorStreamCaptureImplicit) NAME(cudaErrorNotReady)
        NAME(cudaErrorNotSupported) NAME(cudaErrorIllegalState) NAME(cudaErrorDevicesUnavailable) NAME(cudaErrorLaunchFailure)
#undef NAME
    }
    return "cudaErrorUnknown";
}
const char* cudaGetErrorString(cudaError_t error) { return error == cudaErrorMemoryAllocation ? "out of memory" : "as the name says (device in software)"; }
cudaError_t cudaGetLastError() { return cudaSuccess; }
cudaError_t cudaDriverGetVersion(int* version) { *version = driver; return cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int* version) { *version = 13000; return cudaSuccess; }
static cudaError_t usable() { return driver < 13000 ? cudaErrorInsufficientDriver : count ? cudaSuccess : cudaErrorNoDevice; }
cudaError_t cudaGetDeviceCount(int* found) { *found = count; return usable(); }
cudaError_t cudaGetDevice(int* now) { *now = device; return usable(); }
cudaError_t cudaSetDevice(int wanted) { if (usable()) return usable(); if (wanted >= count) return cudaErrorInvalidDevice; device = wanted; return cudaSuccess; }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* about, int) {
    *about = {};
    std::strcpy(about->name, capability >= 90 ? "NVIDIA H200 (in software)" : capability == 75 ? "Tesla T4 (in software)" : "a GPU (in software)");
    about->major = capability / 10; about->minor = capability % 10;
    about->totalGlobalMem = memory; about->multiProcessorCount = capability >= 90 ? 132 : 40; about->warpSize = 32;
    about->maxThreadsPerBlock = 1024; about->sharedMemPerBlock = 48 << 10; about->regsPerBlock = 65536; about->l2CacheSize = 50 << 20;
    about->sharedMemPerMultiprocessor = capability >= 90 ? 228 << 10 : 64 << 10; about->sharedMemPerBlockOptin = capability >= 90 ? 227 << 10 : 64 << 10;
    about->maxThreadsPerMultiProcessor = capability >= 80 ? 2048 : 1024; about->memoryBusWidth = 6144;
    return usable();
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr which, int) {
    cudaDeviceProp about;
    cudaGetDeviceProperties(&about, 0);
    switch (which) {
        case cudaDevAttrComputeCapabilityMajor: *value = about.major; break;
        case cudaDevAttrComputeCapabilityMinor: *value = about.minor; break;
        case cudaDevAttrMultiProcessorCount: *value = about.multiProcessorCount; break;
        case cudaDevAttrMaxThreadsPerBlock: *value = about.maxThreadsPerBlock; break;
        case cudaDevAttrMaxSharedMemoryPerBlock: *value = about.sharedMemPerBlock; break;
        case cudaDevAttrClockRate: *value = 1980000; break;
        case cudaDevAttrMemoryClockRate: *value = 3201000; break;
        case cudaDevAttrGlobalMemoryBusWidth: *value = about.memoryBusWidth; break;
        default: *value = 0;
    }
    return usable();
}
cudaError_t cudaDeviceGetPCIBusId(char* id, int bytes, int) { std::snprintf(id, bytes, "0000:00:00.0"); return cudaSuccess; }
cudaError_t cudaProfilerStart() { return cudaSuccess; }
cudaError_t cudaProfilerStop() { return cudaSuccess; }

CUresult cuGetErrorName(CUresult error, const char** name) {
    *name = error == CUDA_ERROR_INVALID_VALUE ? "CUDA_ERROR_INVALID_VALUE" : error == CUDA_ERROR_NOT_FOUND ? "CUDA_ERROR_NOT_FOUND"
            : error == CUDA_ERROR_LAUNCH_FAILED ? "CUDA_ERROR_LAUNCH_FAILED" : "CUDA_ERROR_UNKNOWN";
    return CUDA_SUCCESS;
}
CUresult cuGetErrorString(CUresult error, const char** text) { return cuGetErrorName(error, text); }
CUresult cuCtxGetCurrent(CUcontext* context) { *context = (CUcontext)&legacy; return CUDA_SUCCESS; }
CUresult cuCtxSetCurrent(CUcontext) { return CUDA_SUCCESS; }
CUresult cuCtxGetDevice(CUdevice* now) { *now = device; return CUDA_SUCCESS; }

// ------------------------------------------------------------------ kernels

struct CUmod_st { void* library; };
struct CUfunc_st {
    Work* (*bind)(void**);
    void (*run)(const unsigned*, unsigned, unsigned, unsigned, const Work*);
    const char* (*refused)();
    int* most_threads;
    std::string name;
    unsigned most_shared = 48 << 10;
};

CUresult cuModuleLoadData(CUmodule* module, const void* image) {      // "bytes of the library, bytes of the table\n", the library, the table
    size_t bytes, table_bytes;
    int head;
    if (std::sscanf((const char*)image, "kernels %zu %zu\n%n", &bytes, &table_bytes, &head) != 2) return CUDA_ERROR_INVALID_VALUE;
    const char* library = (const char*)image + 64;
    char path[] = "/tmp/npunet-kernels-XXXXXX";
    int file = mkstemp(path);
    bool written = write(file, library, bytes) == (ssize_t)bytes;
    close(file);
    void* loaded = written ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : nullptr;
    if (!loaded) std::fprintf(stderr, "device in software: %s\n", dlerror());
    unlink(path);
    if (!loaded) return CUDA_ERROR_INVALID_VALUE;
    auto shared_is_at = (void (*)(void*, unsigned long))dlsym(loaded, "shared_is_at");
    std::istringstream table(std::string(library + bytes, table_bytes));
    unsigned long of_function, at, size;
    for (table >> of_function; table >> at >> size;) shared_is_at((char*)shared_is_at - of_function + at, size);
    *module = (CUmodule) new CUmod_st{loaded};
    return CUDA_SUCCESS;
}
static std::string text_of(const std::string& path) {
    std::string text;
    if (FILE* file = fopen(path.c_str(), "rb")) {
        char part[65536];
        for (size_t n; (n = fread(part, 1, sizeof part, file));) text.append(part, n);
        fclose(file);
    }
    return text;
}
CUresult cuModuleLoad(CUmodule* module, const char* path) { return cuModuleLoadData(module, text_of(path).c_str()); }
CUresult cuModuleUnload(CUmodule) { return CUDA_SUCCESS; }               // its kernels may still wait for their turn
CUresult cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name) {
    void* library = ((CUmod_st*)module)->library;
    auto find = [&](std::string symbol) { return dlsym(library, symbol.c_str()); };
    auto* found = new CUfunc_st{(Work * (*)(void**)) find(std::string("bind_") + name), (decltype(CUfunc_st::run))find(std::string("run_") + name),
                                (const char* (*)())find("what_was_refused"), (int*)find(std::string("most_threads_") + name), name};
    *function = (CUfunction)found;
    if (!found->bind) std::fprintf(stderr, "device in software: no kernel %s\n", name);
    return found->bind ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}
CUresult cuLaunchKernel(CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned x, unsigned y, unsigned z, unsigned shared, CUstream stream,
                        void** parameters, void**) {
    auto* kernel = (CUfunc_st*)function;
    if (!gx || !gy || !gz || !x || gx > 0x7fffffff || gy > 65535 || gz > 65535 || z != 1 || x * y > 1024 || x * y > (unsigned)*kernel->most_threads || shared > kernel->most_shared) return CUDA_ERROR_INVALID_VALUE;
    ONE_AT_A_TIME;
    std::shared_ptr<Work> bound(kernel->bind(parameters));                   // has copies of its arguments
    return (CUresult)give(stream, [=] {
        unsigned before = _mm_getcsr();
        _mm_setcsr(before | 0x8040);                                          // CuPy gives NVRTC -ftz=true: denormals are zero
        unsigned grid[] = {gx, gy, gz};
        kernel->run(grid, x * y, y, shared, bound.get());
        _mm_setcsr(before);
        if (const char* what = kernel->refused()) { std::fprintf(stderr, "device in software: %s: %s\n", kernel->name.c_str(), what); std::abort(); }
    });
}
CUresult cuFuncGetAttribute(int* value, CUfunction_attribute which, CUfunction function) {
    *value = which == CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK ? *((CUfunc_st*)function)->most_threads : which == CU_FUNC_ATTRIBUTE_NUM_REGS ? 32 : 0;
    return CUDA_SUCCESS;
}
CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute which, int value) {
    cudaDeviceProp about;
    cudaGetDeviceProperties(&about, 0);
    if (which != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES || value > (int)about.sharedMemPerBlockOptin) return CUDA_ERROR_INVALID_VALUE;
    ((CUfunc_st*)function)->most_shared = value;
    return CUDA_SUCCESS;
}
CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, CUfunction, int threads, size_t) { *blocks = 2048 / threads; return CUDA_SUCCESS; }
CUresult cuOccupancyMaxPotentialBlockSize(int* grid, int* block, CUfunction, CUoccupancyB2DSize, size_t, int) { *grid = 264; *block = 1024; return CUDA_SUCCESS; }

// ------------------------------------------------------------------ the compiler

struct Program { std::string source, name, log, image; };
const char* nvrtcGetErrorString(int error) { return error == 6 ? "NVRTC_ERROR_COMPILATION" : error ? "NVRTC_ERROR" : "NVRTC_SUCCESS"; }
int nvrtcVersion(int* major, int* minor) { *major = 13; *minor = 0; return 0; }
int nvrtcGetNumSupportedArchs(int* number) { *number = 1; return 0; }
int nvrtcGetSupportedArchs(int* all) { *all = capability; return 0; }
int nvrtcCreateProgram(Program** program, const char* source, const char* name, int, const char**, const char**) { *program = new Program{source, name ? name : "kern.cu"}; return 0; }
int nvrtcDestroyProgram(Program** program) { delete *program; return 0; }
int nvrtcCompileProgram(Program* program, int number, const char** options) {
    char folder[] = "/tmp/npunet-compile-XXXXXX";
    if (!mkdtemp(folder)) return 1;
    std::string in = folder, command = std::string(getenv("NPUNET_DEVICE_COMPILER") ?: "false") + " " + in;
    if (FILE* file = fopen((in + "/kernels.cu").c_str(), "wb")) { fwrite(program->source.data(), 1, program->source.size(), file); fclose(file); }
    if (FILE* file = fopen((in + "/options").c_str(), "wb")) { for (int i = 0; i < number; ++i) fprintf(file, "%s\n", options[i]); fclose(file); }
    int failed = pclose(popen((command + " > " + in + "/log 2>&1").c_str(), "r"));      // system() would lose a Ctrl-C meanwhile
    program->log = text_of(in + "/log");
    program->image = text_of(in + "/image");
    if (system(("rm -rf " + in).c_str())) return 1;
    return failed ? 6 : 0;
}
static int size_of(const std::string& text, size_t* bytes) { *bytes = text.size() + 1; return 0; }
static int give_text(const std::string& text, char* to) { std::memcpy(to, text.c_str(), text.size() + 1); return 0; }
int nvrtcGetCUBINSize(Program* program, size_t* bytes) { return size_of(program->image, bytes); }
int nvrtcGetCUBIN(Program* program, char* to) { return give_text(program->image, to); }
static const std::string version = "// device in software, " __DATE__ " " __TIME__ "\n";      // what CuPy asks PTX for: a part of its cache's keys
int nvrtcGetPTXSize(Program*, size_t* bytes) { return size_of(version, bytes); }
int nvrtcGetPTX(Program*, char* to) { return give_text(version, to); }
int nvrtcGetProgramLogSize(Program* program, size_t* bytes) { return size_of(program->log, bytes); }
int nvrtcGetProgramLog(Program* program, char* to) { return give_text(program->log, to); }

// ------------------------------------------------------------------ matrix products: column-major, as cuBLAS has them

struct Handle { cudaStream_t stream; int math, pointers; };
int cublasCreate_v2(Handle** handle) { *handle = new Handle{}; return 0; }
int cublasDestroy_v2(Handle* handle) { delete handle; return 0; }
int cublasSetStream_v2(Handle* handle, cudaStream_t stream) { handle->stream = stream; return 0; }
int cublasGetStream_v2(Handle* handle, cudaStream_t* stream) { *stream = handle->stream; return 0; }
int cublasSetMathMode(Handle* handle, int mode) { handle->math = mode; return 0; }
int cublasGetMathMode(Handle* handle, int* mode) { *mode = handle->math; return 0; }
int cublasSetPointerMode_v2(Handle* handle, int mode) { handle->pointers = mode; return 0; }
int cublasGetPointerMode_v2(Handle* handle, int* mode) { *mode = handle->pointers; return 0; }
int cublasGetVersion_v2(Handle*, int* version) { *version = 130000; return 0; }
}
template <typename T> static T rounded(T value, bool) { return value; }
template <> float rounded(float value, bool tf32) {
    unsigned bits;
    std::memcpy(&bits, &value, 4);
    if (tf32 && std::isfinite(value)) bits = (bits + 0x1000) & 0xffffe000u;
    std::memcpy(&value, &bits, 4);
    return value;
}
template <typename T> static int gemm(Handle* handle, int ta, int tb, int m, int n, int k, const T* alpha, const T* a, int lda, long as, const T* b, int ldb,
                                      long bs, const T* beta, T* c, int ldc, long cs, int batch, bool tf32) {
    ONE_AT_A_TIME;
    T one = handle->pointers ? 0 : *alpha, two = handle->pointers ? 0 : *beta;
    bool on_device = handle->pointers;
    tf32 = tf32 || (handle->math == 3 && sizeof(T) == 4);
    return give(handle->stream, [=] {
        T x = on_device ? *alpha : one, y = on_device ? *beta : two;
        std::vector<T> column(m);
        for (long i = 0; i < batch; ++i)
            for (long col = 0; col < n; ++col) {
                std::fill(column.begin(), column.end(), T(0));
                for (long deep = 0; deep < k; ++deep) {
                    T factor = rounded(b[i * bs + (tb ? col + deep * ldb : deep + col * ldb)], tf32);
                    const T* from = a + i * as + (ta ? deep : deep * lda);
                    for (long row = 0; row < m; ++row) column[row] += factor * rounded(from[ta ? row * lda : row], tf32);
                }
                T* to = c + i * cs + col * ldc;
                for (long row = 0; row < m; ++row) to[row] = x * column[row] + (y == T(0) ? T(0) : y * to[row]);
            }
    }) ? 14 : 0;
}
extern "C" {
#define GEMM(letter, T) \
    int cublas##letter##gemm_v2(Handle* h, int ta, int tb, int m, int n, int k, const T* alpha, const T* a, int lda, const T* b, int ldb, const T* beta, T* c, int ldc) { \
        return gemm<T>(h, ta, tb, m, n, k, alpha, a, lda, 0, b, ldb, 0, beta, c, ldc, 0, 1, false); } \
    int cublas##letter##gemmStridedBatched(Handle* h, int ta, int tb, int m, int n, int k, const T* alpha, const T* a, int lda, long long as, const T* b, int ldb, \
                                           long long bs, const T* beta, T* c, int ldc, long long cs, int batch) { \
        return gemm<T>(h, ta, tb, m, n, k, alpha, a, lda, as, b, ldb, bs, beta, c, ldc, cs, batch, false); } \
    int cublas##letter##gemmBatched(Handle* h, int ta, int tb, int m, int n, int k, const T* alpha, const T* const* a, int lda, const T* const* b, int ldb, const T* beta, \
                                    T* const* c, int ldc, int batch) { \
        cudaStreamSynchronize(h->stream); \
        for (int i = 0; i < batch; ++i) gemm<T>(h, ta, tb, m, n, k, alpha, a[i], lda, 0, b[i], ldb, 0, beta, c[i], ldc, 0, 1, false); \
        return 0; } \
    int cublas##letter##dot_v2(Handle* h, int n, const T* x, int incx, const T* y, int incy, T* result) { \
        ONE_AT_A_TIME; \
        give(h->stream, [=] { T sum = 0; for (long i = 0; i < n; ++i) sum += x[i * incx] * y[i * incy]; *result = sum; }); \
        return h->pointers ? 0 : (int)cudaStreamSynchronize(h->stream); }
GEMM(S, float)
GEMM(D, double)
static const int R_32F = 0, R_64F = 1, FAST_TF32 = 77;                       // cudaDataType, cublasComputeType_t
int cublasGemmStridedBatchedEx(Handle* h, int ta, int tb, int m, int n, int k, const void* alpha, const void* a, int at, int lda, long long as, const void* b, int bt, int ldb,
                               long long bs, const void* beta, void* c, int ct, int ldc, long long cs, int batch, int compute, int) {
    if (at != bt || bt != ct || (at != R_32F && at != R_64F)) return 15;
    if (at == R_32F) return gemm<float>(h, ta, tb, m, n, k, (float*)alpha, (float*)a, lda, as, (float*)b, ldb, bs, (float*)beta, (float*)c, ldc, cs, batch, compute == FAST_TF32);
    return gemm<double>(h, ta, tb, m, n, k, (double*)alpha, (double*)a, lda, as, (double*)b, ldb, bs, (double*)beta, (double*)c, ldc, cs, batch, false);
}
int cublasGemmEx(Handle* h, int ta, int tb, int m, int n, int k, const void* alpha, const void* a, int at, int lda, const void* b, int bt, int ldb, const void* beta, void* c,
                 int ct, int ldc, int compute, int algo) {
    return cublasGemmStridedBatchedEx(h, ta, tb, m, n, k, alpha, a, at, lda, 0, b, bt, ldb, 0, beta, c, ct, ldc, 0, 1, compute, algo);
}
int cublasSgemmEx(Handle* h, int ta, int tb, int m, int n, int k, const float* alpha, const void* a, int at, int lda, const void* b, int bt, int ldb, const float* beta, void* c,
                  int ct, int ldc) {
    return cublasGemmStridedBatchedEx(h, ta, tb, m, n, k, alpha, a, at, lda, 0, b, bt, ldb, 0, beta, c, ct, ldc, 0, 1, 68, 0);
}

// ------------------------------------------------------------------ random numbers

struct Generator { std::mt19937_64 bits; cudaStream_t stream; };
int curandCreateGenerator(Generator** generator, int) { *generator = new Generator{}; return 0; }
int curandDestroyGenerator(Generator* generator) { delete generator; return 0; }
int curandSetPseudoRandomGeneratorSeed(Generator* generator, unsigned long long seed) { generator->bits.seed(seed); return 0; }
int curandSetGeneratorOffset(Generator*, unsigned long long) { return 0; }
int curandSetStream(Generator* generator, cudaStream_t stream) { generator->stream = stream; return 0; }
int curandGenerateNormal(Generator* generator, float* to, size_t n, float mean, float deviation) {
    ONE_AT_A_TIME;
    return give(generator->stream, [=] { std::normal_distribution<float> normal(mean, deviation); for (size_t i = 0; i < n; ++i) to[i] = normal(generator->bits); });
}
}
