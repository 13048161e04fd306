/* Stands in for the driver's libnvidia-ml.so.1: answers from the file named by STANDIN_NVML.
 *
 *   gpu UUID NAME TOTAL USED UTILIZATION POWER_MW TEMPERATURE SM_MHZ MEMORY_MHZ ENERGY_MJ LIMIT_MW
 *       CLOCK_REASONS ECC_ERRORS
 *   proc INDEX PID BYTES
 *   xid INDEX CODE            an event; heard once, by sets that were made before it stood here
 *   driver VERSION CUDA
 *   old                       the driver has no nvmlDeviceGetMemoryInfo_v2 and knows the reasons of
 *                             clocks by their former name
 *
 * An underscore in NAME stands for a blank; a value of -1 is not supported by the device. The
 * file is read anew for every question.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, INVALID = 2, NOT_SUPPORTED = 3, INSUFFICIENT_SIZE = 7, NO_DRIVER = 9,
       TIMEOUT = 10, FUNCTION_NOT_FOUND = 13 };
enum { MAX_GPUS = 16, MAX_PROCESSES = 32, MAX_XIDS = 32, CLOCK_SM = 1, XID_EVENT = 8,
       UNCORRECTED = 1 };

typedef struct { char uuid[96], name[96]; long long total, used, values[9]; } gpu_t;
typedef struct { int gpu; unsigned long long code; } xid_t;
typedef struct { int heard; unsigned gpus; } event_set_t;
typedef struct {
    void *device;
    unsigned long long type, data;
    unsigned instance, compute;
} event_t;
typedef struct { unsigned pid; unsigned long long used; unsigned instance, compute; } process_t;
typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2_t;
typedef struct { unsigned gpu, memory; } utilization_t;

static gpu_t gpus[MAX_GPUS];
static process_t processes[MAX_PROCESSES];
static int owners[MAX_PROCESSES];
static xid_t xids[MAX_XIDS];
static char driver_version[80];
static int gpu_count, process_count, xid_count, cuda_version, old_driver;

static int load(void) {
    const char *path = getenv("STANDIN_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[512];
    gpu_count = process_count = xid_count = cuda_version = old_driver = 0;
    driver_version[0] = 0;
    if (!file) return 0;
    while (fgets(line, sizeof line, file)) {
        gpu_t *gpu = &gpus[gpu_count];
        process_t *process = &processes[process_count];
        if (sscanf(line, "gpu %95s %95s %lld %lld %lld %lld %lld %lld %lld %lld %lld %lld %lld",
                   gpu->uuid, gpu->name, &gpu->total, &gpu->used, &gpu->values[0], &gpu->values[1],
                   &gpu->values[2], &gpu->values[3], &gpu->values[4], &gpu->values[5],
                   &gpu->values[6], &gpu->values[7], &gpu->values[8]) == 13
            && gpu_count < MAX_GPUS - 1) {
            for (char *at = gpu->name; *at; at++) if (*at == '_') *at = ' ';
            gpu_count++;
        } else if (sscanf(line, "proc %d %u %llu", &owners[process_count], &process->pid,
                          &process->used) == 3 && process_count < MAX_PROCESSES - 1) {
            process_count++;
        } else if (sscanf(line, "xid %d %llu", &xids[xid_count].gpu, &xids[xid_count].code) == 2
                   && xid_count < MAX_XIDS - 1) {
            xid_count++;
        } else if (sscanf(line, "driver %79s %d", driver_version, &cuda_version) == 2) {
            continue;
        } else if (!strncmp(line, "old", 3)) {
            old_driver = 1;
        }
    }
    fclose(file);
    return 1;
}

static gpu_t *find(void *handle) {
    long index = (long)handle - 1;
    load();
    return index >= 0 && index < gpu_count ? &gpus[index] : NULL;
}

static int value(void *handle, int which, unsigned *out) {
    gpu_t *gpu = find(handle);
    if (!gpu) return INVALID;
    if (gpu->values[which] < 0) return NOT_SUPPORTED;
    *out = (unsigned)gpu->values[which];
    return SUCCESS;
}

int nvmlInitWithFlags(unsigned flags) { (void)flags; return load() ? SUCCESS : NO_DRIVER; }
int nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(int code) { (void)code; return "stand-in"; }

int nvmlDeviceGetCount_v2(unsigned *count) { load(); *count = gpu_count; return SUCCESS; }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    load();
    if ((int)index >= gpu_count) return INVALID;
    *handle = (void *)(long)(index + 1);
    return SUCCESS;
}

int nvmlDeviceGetUUID(void *handle, char *text, unsigned size) {
    gpu_t *gpu = find(handle);
    if (!gpu || gpu->total < 0) return INVALID;
    snprintf(text, size, "%s", gpu->uuid);
    return SUCCESS;
}

int nvmlDeviceGetName(void *handle, char *text, unsigned size) {
    gpu_t *gpu = find(handle);
    if (!gpu) return INVALID;
    snprintf(text, size, "%s", gpu->name);
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(void *handle, memory_t *memory) {
    gpu_t *gpu = find(handle);
    if (!gpu) return INVALID;
    *memory = (memory_t){gpu->total, gpu->total - gpu->used, gpu->used};
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo_v2(void *handle, memory_v2_t *memory) {
    gpu_t *gpu = find(handle);
    if (!gpu) return INVALID;
    if (old_driver) return FUNCTION_NOT_FOUND;
    memory->total = gpu->total;
    memory->reserved = 1 << 20;
    memory->used = gpu->used;
    memory->free = gpu->total - gpu->used - memory->reserved;
    return SUCCESS;
}

int nvmlDeviceGetUtilizationRates(void *handle, utilization_t *rates) {
    rates->memory = 0;
    return value(handle, 0, &rates->gpu);
}
int nvmlDeviceGetPowerUsage(void *handle, unsigned *milliwatts) {
    return value(handle, 1, milliwatts);
}
int nvmlDeviceGetTemperature(void *handle, int sensor, unsigned *celsius) {
    (void)sensor;
    return value(handle, 2, celsius);
}
int nvmlDeviceGetClockInfo(void *handle, int clock, unsigned *mhz) {
    return value(handle, clock == CLOCK_SM ? 3 : 4, mhz);
}

int nvmlDeviceGetEnforcedPowerLimit(void *handle, unsigned *milliwatts) {
    return value(handle, 6, milliwatts);
}

static int long_value(void *handle, int which, unsigned long long *out) {
    gpu_t *gpu = find(handle);
    if (!gpu) return INVALID;
    if (gpu->values[which] < 0) return NOT_SUPPORTED;
    *out = (unsigned long long)gpu->values[which];
    return SUCCESS;
}

int nvmlDeviceGetTotalEnergyConsumption(void *handle, unsigned long long *millijoules) {
    return long_value(handle, 5, millijoules);
}
int nvmlDeviceGetCurrentClocksEventReasons(void *handle, unsigned long long *reasons) {
    int found = long_value(handle, 7, reasons);
    return old_driver ? FUNCTION_NOT_FOUND : found;
}
int nvmlDeviceGetCurrentClocksThrottleReasons(void *handle, unsigned long long *reasons) {
    return long_value(handle, 7, reasons);
}
int nvmlDeviceGetTotalEccErrors(void *handle, int error, int counter, unsigned long long *count) {
    if (error != UNCORRECTED || counter) return INVALID;
    return long_value(handle, 8, count);
}

int nvmlSystemGetDriverVersion(char *text, unsigned size) {
    load();
    if (!driver_version[0]) return NOT_SUPPORTED;
    snprintf(text, size, "%s", driver_version);
    return SUCCESS;
}
int nvmlSystemGetCudaDriverVersion_v2(int *version) {
    load();
    *version = cuda_version;
    return cuda_version ? SUCCESS : NOT_SUPPORTED;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, void **handle) {
    load();
    for (int index = 0; index < gpu_count; index++) {
        if (strcmp(gpus[index].uuid, uuid)) continue;
        *handle = (void *)(long)(index + 1);
        return SUCCESS;
    }
    return INVALID;
}

int nvmlEventSetCreate(event_set_t **set) {
    load();
    *set = calloc(1, sizeof **set);
    (*set)->heard = xid_count;
    return SUCCESS;
}
int nvmlDeviceRegisterEvents(void *handle, unsigned long long types, event_set_t *set) {
    if (!find(handle) || types != XID_EVENT) return INVALID;
    set->gpus |= 1u << ((long)handle - 1);
    return SUCCESS;
}
int nvmlEventSetWait_v2(event_set_t *set, event_t *event, unsigned milliseconds) {
    (void)milliseconds;
    load();
    while (set->heard < xid_count) {
        xid_t *xid = &xids[set->heard++];
        if (!(set->gpus >> xid->gpu & 1)) continue;
        *event = (event_t){(void *)(long)(xid->gpu + 1), XID_EVENT, xid->code, 0, 0};
        return SUCCESS;
    }
    return TIMEOUT;
}
int nvmlEventSetFree(event_set_t *set) { free(set); return SUCCESS; }

int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *count, process_t *out) {
    long index = (long)handle - 1;
    unsigned room = *count, found = 0;
    if (!find(handle)) return INVALID;
    for (int at = 0; at < process_count; at++) {
        if (owners[at] != index) continue;
        if (out && found < room) out[found] = processes[at];
        found++;
    }
    *count = found;
    return found > room ? INSUFFICIENT_SIZE : SUCCESS;
}
