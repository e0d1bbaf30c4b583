// The kernels on the processor, for tests: reads batches from standard input and writes what a
// network would get to standard output. Threads of a block are threads here; nothing is in them
// but what the .cuh files say.

#include <condition_variable>
#include <cstdio>
#include <mutex>
#include <thread>
#include <vector>

#include "view.cuh"

namespace {

struct Shared {
    explicit Shared(uint32_t threads) : threads(threads) {}

    void wait() {
        std::unique_lock<std::mutex> lock(mutex);
        const uint64_t turn = turns;
        if (++arrived == threads) {
            arrived = 0;
            turns += 1;
            changed.notify_all();
        } else {
            changed.wait(lock, [&] { return turns != turn; });
        }
    }

    uint32_t threads, arrived = 0;
    uint64_t turns = 0, total = 0;
    std::mutex mutex;
    std::condition_variable changed;
};

struct Threads {
    static constexpr uint32_t LANES = 1;
    static constexpr bool SCRATCH_NEAR = true;
    uint32_t thread, threads;
    Shared *shared;

    void sync_lanes() {}
    void sync() {
        if (threads > 1) shared->wait();
    }

    uint64_t sum(uint64_t value) {
        if (thread == 0) shared->total = 0;
        sync();
        {
            std::lock_guard<std::mutex> lock(shared->mutex);
            shared->total += value;
        }
        sync();
        return shared->total;
    }
};

bool read(void *to, size_t bytes) { return fread(to, 1, bytes, stdin) == bytes; }

}  // namespace

int main() {
    // Threads a block; bytes of parameters, pictures and output.
    uint32_t header[4];
    while (read(header, sizeof header)) {
        const uint32_t threads = header[0];
        std::vector<uint32_t> params(header[1] / 4);
        // What follows the last picture is read and must not matter.
        std::vector<uint8_t> pictures(header[2] + 16, 0xee);
        if (!read(params.data(), header[1]) || !read(pictures.data(), header[2])) return 1;
        const pretext::Batch &batch = *(const pretext::Batch *)params.data();
        // Whatever is read before it is written shows.
        std::vector<uint8_t> canvas(batch.canvas, 0xa5), scratch(batch.scratch, 0x5a);
        std::vector<uint8_t> spill(batch.spill, 0xc3), program(batch.program, 0x3c);
        std::vector<uint8_t> out(header[3], 0xff);
        std::vector<uint32_t> table(pretext::TABLE, 0xdeadbeef);
        Shared shared(threads);
        std::vector<std::thread> others;
        const auto work = [&](uint32_t thread) {
            Threads block{thread, threads, &shared};
            pretext::fill_table(block, batch, table.data());
            for (uint32_t view = 0; view < batch.views; view++) {
                pretext::make_view(block, params.data(), view, pictures.data(), program.data(),
                                   canvas.data(), scratch.data(), spill.data(), table.data(),
                                   out.data());
            }
        };
        for (uint32_t thread = 1; thread < threads; thread++) others.emplace_back(work, thread);
        work(0);
        for (std::thread &other : others) other.join();
        fwrite(out.data(), 1, out.size(), stdout);
        fflush(stdout);
    }
    return 0;
}
