/* Stands in for the driver's libnvidia-ml.so.1: answers from the file named by STANDIN_NVML.
 *
 *   gpu UUID NAME TOTAL USED UTILIZATION POWER_MW TEMPERATURE SM_MHZ MEMORY_MHZ ENERGY_MJ
 *   proc INDEX PID BYTES
 *   old                       the driver has no nvmlDeviceGetMemoryInfo_v2
 *
 * An underscore in NAME stands for a blank; a value of -1 is not supported by the device. The
 * file is read anew for every question.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, INVALID = 2, NOT_SUPPORTED = 3, INSUFFICIENT_SIZE = 7, NO_DRIVER = 9,
       FUNCTION_NOT_FOUND = 13 };
enum { MAX_GPUS = 16, MAX_PROCESSES = 32, CLOCK_SM = 1 };

typedef struct { char uuid[96], name[96]; long long total, used, values[6]; } gpu_t;
typedef struct { unsigned pid; unsigned long long used; unsigned instance, compute; } process_t;
typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2_t;
typedef struct { unsigned gpu, memory; } utilization_t;

static gpu_t gpus[MAX_GPUS];
static process_t processes[MAX_PROCESSES];
static int owners[MAX_PROCESSES];
static int gpu_count, process_count, old_driver;

static int load(void) {
    const char *path = getenv("STANDIN_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[512];
    gpu_count = process_count = old_driver = 0;
    if (!file) return 0;
    while (fgets(line, sizeof line, file)) {
        gpu_t *gpu = &gpus[gpu_count];
        process_t *process = &processes[process_count];
        if (sscanf(line, "gpu %95s %95s %lld %lld %lld %lld %lld %lld %lld %lld", gpu->uuid, gpu->name,
                   &gpu->total, &gpu->used, &gpu->values[0], &gpu->values[1], &gpu->values[2],
                   &gpu->values[3], &gpu->values[4], &gpu->values[5]) == 10 && gpu_count < MAX_GPUS - 1) {
            for (char *at = gpu->name; *at; at++) if (*at == '_') *at = ' ';
            gpu_count++;
        } else if (sscanf(line, "proc %d %u %llu", &owners[process_count], &process->pid,
                          &process->used) == 3 && process_count < MAX_PROCESSES - 1) {
            process_count++;
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

int nvmlDeviceGetTotalEnergyConsumption(void *handle, unsigned long long *millijoules) {
    gpu_t *gpu = find(handle);
    if (!gpu) return INVALID;
    if (gpu->values[5] < 0) return NOT_SUPPORTED;
    *millijoules = (unsigned long long)gpu->values[5];
    return SUCCESS;
}

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
