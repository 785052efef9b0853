//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#include <bulkhead/detail/cgroup.hpp>
#include <bulkhead/sizing.hpp>

#include <boost/test/unit_test.hpp>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

#if defined(__linux__)
#include <sched.h>
#endif

namespace fs = std::filesystem;
using bulkhead::threads_from_env;

namespace {

/// A made-up machine: /proc and /sys in a temporary folder.
class fake_root {
public:
  fake_root() {
    std::string name = (fs::temp_directory_path() / "bulkhead-sizing-XXXXXX").string();
    if (!::mkdtemp(name.data())) throw std::runtime_error("mkdtemp");
    root_ = name;
  }
  ~fake_root() { fs::remove_all(root_); }

  fake_root& file(const fs::path& path, const std::string& text) {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
    return *this;
  }

  std::optional<std::size_t> quota() const { return bulkhead::detail::cgroup_cpu_quota(root_); }

private:
  fs::path root_;
};

const std::string v2_mount =
    "31 23 0:28 / /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup2 rw\n";

std::string error_of(const char* value) {
  ::setenv("BULKHEAD_TEST_THREADS", value, 1);
  try {
    threads_from_env("BULKHEAD_TEST_THREADS", 7);
  } catch (const std::invalid_argument& e) {
    return e.what();
  }
  return "accepted";
}

} // namespace

#define CHECK_QUOTA(machine, n) BOOST_TEST((machine.quota() == std::optional<std::size_t>(n)))
#define CHECK_NO_QUOTA(machine) BOOST_TEST(!machine.quota().has_value())

BOOST_AUTO_TEST_CASE(a_machine_without_proc_or_sys_has_no_quota) {
  fake_root machine;
  CHECK_NO_QUOTA(machine);
}

BOOST_AUTO_TEST_CASE(v2_quota_is_rounded_up_to_whole_cpus) {
  fake_root machine;
  machine.file("proc/self/cgroup", "0::/app\n").file("proc/self/mountinfo", v2_mount);
  machine.file("sys/fs/cgroup/app/cpu.max", "250000 100000\n");
  CHECK_QUOTA(machine, 3);
  machine.file("sys/fs/cgroup/app/cpu.max", "200000 100000\n");
  CHECK_QUOTA(machine, 2);
  machine.file("sys/fs/cgroup/app/cpu.max", "1000 100000\n");
  CHECK_QUOTA(machine, 1);
}

BOOST_AUTO_TEST_CASE(v2_max_is_no_quota) {
  fake_root machine;
  machine.file("proc/self/cgroup", "0::/app\n").file("proc/self/mountinfo", v2_mount);
  machine.file("sys/fs/cgroup/app/cpu.max", "max 100000\n");
  CHECK_NO_QUOTA(machine);
}

BOOST_AUTO_TEST_CASE(the_smallest_quota_of_all_ancestors_binds) {
  fake_root machine;
  machine.file("proc/self/cgroup", "0::/system.slice/a/b\n").file("proc/self/mountinfo", v2_mount);
  machine.file("sys/fs/cgroup/system.slice/a/b/cpu.max", "800000 100000\n");
  machine.file("sys/fs/cgroup/system.slice/a/cpu.max", "max 100000\n");
  machine.file("sys/fs/cgroup/system.slice/cpu.max", "300000 100000\n");
  machine.file("sys/fs/cgroup/other.slice/cpu.max", "100000 100000\n");
  CHECK_QUOTA(machine, 3);
}

BOOST_AUTO_TEST_CASE(v1_quota_and_period) {
  fake_root machine;
  machine.file("proc/self/cgroup", "4:memory:/x\n3:cpu,cpuacct:/app\n");
  machine.file("proc/self/mountinfo",
               "31 23 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
               "32 23 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n");
  machine.file("sys/fs/cgroup/cpu,cpuacct/app/cpu.cfs_period_us", "50000\n");
  machine.file("sys/fs/cgroup/cpu,cpuacct/app/cpu.cfs_quota_us", "-1\n");
  CHECK_NO_QUOTA(machine);
  machine.file("sys/fs/cgroup/cpu,cpuacct/app/cpu.cfs_quota_us", "75000\n");
  CHECK_QUOTA(machine, 2);
}

BOOST_AUTO_TEST_CASE(cpuset_and_cpuacct_are_not_the_cpu_controller) {
  fake_root machine;
  machine.file("proc/self/cgroup", "3:cpuset:/app\n2:cpuacct:/app\n0::/app\n");
  machine.file("proc/self/mountinfo",
               "31 23 0:28 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n" + v2_mount);
  machine.file("sys/fs/cgroup/app/cpu.max", "400000 100000\n");
  CHECK_QUOTA(machine, 4);
}

BOOST_AUTO_TEST_CASE(on_a_hybrid_system_the_cpu_controller_decides_which_version_counts) {
  fake_root machine;
  machine.file("proc/self/cgroup", "1:cpu:/app\n0::/app\n");
  machine.file("proc/self/mountinfo",
               "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
               "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
  machine.file("sys/fs/cgroup/cpu/app/cpu.cfs_quota_us", "500000\n");
  machine.file("sys/fs/cgroup/cpu/app/cpu.cfs_period_us", "100000\n");
  machine.file("sys/fs/cgroup/unified/app/cpu.max", "100000 100000\n");
  CHECK_QUOTA(machine, 5);
}

BOOST_AUTO_TEST_CASE(a_container_sees_its_own_cgroup_as_the_root_of_the_mount) {
  fake_root machine;
  machine.file("proc/self/cgroup", "3:cpu:/docker/f00/inner\n");
  machine.file("proc/self/mountinfo",
               "30 23 0:29 /docker/bad /elsewhere ro - cgroup cgroup rw,cpu\n"
               "32 23 0:29 /docker/f00 /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n");
  machine.file("elsewhere/cpu.cfs_quota_us", "100000\n");
  machine.file("elsewhere/cpu.cfs_period_us", "100000\n");
  machine.file("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "200000\n");
  machine.file("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  machine.file("sys/fs/cgroup/cpu/inner/cpu.cfs_quota_us", "900000\n");
  machine.file("sys/fs/cgroup/cpu/inner/cpu.cfs_period_us", "100000\n");
  CHECK_QUOTA(machine, 2);
}

BOOST_AUTO_TEST_CASE(names_that_mountinfo_escapes_are_found) {
  fake_root machine;
  machine.file("proc/self/cgroup", "0::/my app\n");
  machine.file("proc/self/mountinfo", "31 23 0:28 / /my\\040mount rw - cgroup2 cgroup2 rw\n");
  machine.file("my mount/my app/cpu.max", "600000 100000\n");
  CHECK_QUOTA(machine, 6);
}

BOOST_AUTO_TEST_CASE(files_that_make_no_sense_set_no_quota) {
  for (const char* text : {"", "junk", "-5 100000", "0 100000", "100000", "100000 0", "100000 x",
                           "99999999999999999999 100000", "100000 99999999999999999999",
                           "100000 100000x", "100000 100000 1", "0x7 1"}) {
    fake_root machine;
    machine.file("proc/self/cgroup", "\nx\n1:\n0::/app\n");
    machine.file("proc/self/mountinfo", "\n31 23\n- - -\n31 23 0:28 / /x rw shared:1\n" + v2_mount);
    machine.file("sys/fs/cgroup/app/cpu.max", text);
    BOOST_TEST_CONTEXT("cpu.max: " << text) { CHECK_NO_QUOTA(machine); }
  }
}

BOOST_AUTO_TEST_CASE(files_of_v1_that_make_no_sense_set_no_quota) {
  using texts = std::pair<const char*, const char*>;
  for (auto [quota, period] :
       {texts("", "100000"), texts("100000", ""), texts("junk", "100000"),
        texts("100000x", "100000"), texts("100000", "100000 1"),
        texts("99999999999999999999", "100000"), texts("100000", "99999999999999999999")}) {
    fake_root machine;
    machine.file("proc/self/cgroup", "1:cpu:/app\n");
    machine.file("proc/self/mountinfo", "32 31 0:29 / /cpu rw - cgroup cgroup rw,cpu\n");
    machine.file("cpu/app/cpu.cfs_quota_us", quota).file("cpu/app/cpu.cfs_period_us", period);
    BOOST_TEST_CONTEXT("quota " << quota << ", period " << period) { CHECK_NO_QUOTA(machine); }
  }
}

BOOST_AUTO_TEST_CASE(a_process_in_no_cgroup_has_no_quota) {
  for (const char* cgroups : {"", "4:memory:/app\n", "0::\n", "0::app\n"}) {
    fake_root machine;
    machine.file("proc/self/cgroup", cgroups).file("proc/self/mountinfo", v2_mount);
    machine.file("sys/fs/cgroup/cpu.max", "100000 100000\n");
    BOOST_TEST_CONTEXT("cgroups: " << cgroups) { CHECK_NO_QUOTA(machine); }
  }
}

BOOST_AUTO_TEST_CASE(a_mount_of_an_ancestor_of_the_namespace_binds_and_one_of_a_sibling_does_not) {
  fake_root machine;
  machine.file("proc/self/cgroup", "0::/app\n");
  machine.file("proc/self/mountinfo", "31 23 0:28 /../.. /above rw - cgroup2 cgroup2 rw\n"
                                      "32 23 0:28 /../other /beside rw - cgroup2 cgroup2 rw\n");
  machine.file("beside/cpu.max", "100000 100000\n").file("beside/app/cpu.max", "100000 100000\n");
  CHECK_NO_QUOTA(machine);
  machine.file("above/app/cpu.max", "100000 100000\n"); // of another one by that name
  CHECK_NO_QUOTA(machine);
  machine.file("above/cpu.max", "300000 100000\n");
  CHECK_QUOTA(machine, 3);
}

BOOST_AUTO_TEST_CASE(a_path_that_leads_up_is_not_followed) {
  for (const char* path : {"/../app", "/app/../../app", "/app/.."}) {
    fake_root machine;
    machine.file("proc/self/cgroup", "0::" + std::string(path) + "\n");
    machine.file("proc/self/mountinfo", v2_mount);
    machine.file("sys/fs/cgroup/app/cpu.max", "100000 100000\n");
    machine.file("sys/fs/app/cpu.max", "100000 100000\n");
    BOOST_TEST_CONTEXT(path) { CHECK_NO_QUOTA(machine); }
  }
}

BOOST_AUTO_TEST_CASE(parallelism_is_at_least_one_and_at_most_the_machine) {
  BOOST_TEST(bulkhead::available_parallelism() >= 1u);
  BOOST_TEST(bulkhead::available_parallelism() <= std::thread::hardware_concurrency());
}

#if defined(__linux__)
BOOST_AUTO_TEST_CASE(the_affinity_mask_bounds_parallelism) {
  std::size_t seen = 0;
  std::thread([&] {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(::sched_getcpu(), &one);
    if (::sched_setaffinity(0, sizeof(one), &one) == 0) seen = bulkhead::available_parallelism();
  }).join();
  BOOST_TEST(seen == 1u);
}
#endif

BOOST_AUTO_TEST_CASE(an_unset_variable_gives_the_fallback) {
  ::unsetenv("BULKHEAD_TEST_THREADS");
  BOOST_TEST(threads_from_env("BULKHEAD_TEST_THREADS", 7) == 7u);
}

BOOST_AUTO_TEST_CASE(a_whole_number_overrides_the_fallback) {
  for (auto [text, threads] : {std::pair("1", 1u), {"12", 12u}, {"007", 7u}, {"65536", 65536u}}) {
    ::setenv("BULKHEAD_TEST_THREADS", text, 1);
    BOOST_TEST(threads_from_env("BULKHEAD_TEST_THREADS", 3) == threads);
  }
}

BOOST_AUTO_TEST_CASE(anything_else_is_refused_by_name_and_value) {
  for (const char* text : {"0", "-3", "", " ", "x", "4x", "4 ", " 4", "+4", "0x4", "1e3", "2.5"})
    BOOST_TEST(error_of(text) ==
               "BULKHEAD_TEST_THREADS must be a whole number of at least 1 (got \"" +
                   std::string(text) + "\")");
  for (const char* text : {"65537", "99999999999999999999999"})
    BOOST_TEST(error_of(text) ==
               "BULKHEAD_TEST_THREADS must be a whole number of at most 65536 (got \"" +
                   std::string(text) + "\")");
}
