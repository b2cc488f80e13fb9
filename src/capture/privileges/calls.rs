//! Stage 1 of 5, capture: the system calls a running sensor makes, and no others. May not apply anything else.
//!
//! Refused calls fail with EPERM rather than end the process: a library's new habit must not be an outage, and an attacker gains as
//! little from an error as from a signal. What is missing on purpose: everything that executes, connects, listens, traces, mounts,
//! changes identity, loads into the kernel, signals others, or makes memory executable.

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter_all_threads,
};
use std::collections::BTreeMap;

/// Calls allowed with any argument.
const ALWAYS: &[i64] = &[
    // Files and descriptors.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_openat,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_fcntl,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_ftruncate,
    libc::SYS_fchmod,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_pipe2,
    libc::SYS_eventfd2,
    // Waiting.
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_futex,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_sched_yield,
    libc::SYS_restart_syscall,
    // Sockets that are open, captures that are opened again, netlink for the list of interfaces. Neither connect nor listen.
    libc::SYS_socket,
    libc::SYS_bind,
    libc::SYS_accept4,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    libc::SYS_shutdown,
    // Memory; what could be executed is decided below.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_mlock,
    libc::SYS_munlock,
    // Threads, signals to oneself, the clock, oneself.
    libc::SYS_clone3,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_set_tid_address,
    libc::SYS_sched_getaffinity,
    libc::SYS_getcpu,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_capget,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Older forms of the same, which newer architectures never had.
#[cfg(target_arch = "x86_64")]
const OLDER: &[i64] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_mkdir,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_chmod,
    libc::SYS_dup2,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_epoll_wait,
    libc::SYS_time,
    libc::SYS_getrlimit,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[i64] = &[];

/// Installs the filter for every thread of the process.
pub(super) fn restrict() -> Result<String, String> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|_| {
        format!("no filter for {}; it is made for x86_64, aarch64 and riscv64", std::env::consts::ARCH)
    })?;
    let install = || -> Result<usize, Box<dyn std::error::Error>> {
        let rules = allowed(std::process::id())?;
        let count = rules.len();
        let refuse = SeccompAction::Errno(libc::EPERM.cast_unsigned());
        let allow: BpfProgram = SeccompFilter::new(rules, refuse, SeccompAction::Allow, arch)?.try_into()?;
        // The flags of clone3 lie in memory, where a filter cannot look: told that there is no such call, libc takes clone.
        let unknown = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
        let clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
        let clone3: BpfProgram =
            SeccompFilter::new(clone3, SeccompAction::Allow, unknown, arch)?.try_into()?;
        // libpcap, asked for the interfaces, tries Bluetooth: this is the answer of a kernel without it, any other a failure to it.
        let without = SeccompAction::Errno(libc::EAFNOSUPPORT.cast_unsigned());
        let families = BTreeMap::from([(libc::SYS_socket, vec![other_families()?])]);
        let families: BpfProgram =
            SeccompFilter::new(families, SeccompAction::Allow, without, arch)?.try_into()?;
        apply_filter_all_threads(&clone3)?;
        apply_filter_all_threads(&families)?;
        apply_filter_all_threads(&allow)?;
        Ok(count)
    };
    match install() {
        Ok(count) => Ok(format!("{count} system calls allowed")),
        Err(error) => Err(format!("{error}; the kernel needs CONFIG_SECCOMP_FILTER")),
    }
}

/// Of the page, the readiness that systemd is told, the list of interfaces, and the captures.
const FAMILIES: [libc::c_int; 5] =
    [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK, libc::AF_PACKET];

/// A socket of none of [`FAMILIES`].
fn other_families() -> Result<SeccompRule, seccompiler::BackendError> {
    let other = |family: libc::c_int| {
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, u64::from(family.cast_unsigned()))
    };
    SeccompRule::new(FAMILIES.into_iter().map(other).collect::<Result<_, _>>()?)
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Every call that is allowed, with what its arguments must be.
fn allowed(own_pid: u32) -> Result<Rules, seccompiler::BackendError> {
    use SeccompCmpArgLen::{Dword, Qword};
    use SeccompCmpOp::{Eq, MaskedEq, Ne};
    let mut rules: Rules = ALWAYS.iter().chain(OLDER).map(|&call| (call, Vec::new())).collect();
    let number = |number: libc::c_int| u64::from(number.cast_unsigned());
    let mut allow = |call: i64, conditions: Vec<SeccompCondition>| -> Result<(), seccompiler::BackendError> {
        rules.entry(call).or_default().push(SeccompRule::new(conditions)?);
        Ok(())
    };
    allow(libc::SYS_socketpair, vec![SeccompCondition::new(0, Dword, Eq, number(libc::AF_UNIX))?])?;
    // Threads, never processes.
    let thread = libc::CLONE_THREAD.cast_unsigned().into();
    allow(libc::SYS_clone, vec![SeccompCondition::new(0, Qword, MaskedEq(thread), thread)?])?;
    // Memory is never executable.
    let exec = number(libc::PROT_EXEC);
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        allow(call, vec![SeccompCondition::new(2, Dword, MaskedEq(exec), 0)?])?;
    }
    // Anything but typing into the terminal it was started from.
    let input = |request: libc::c_ulong| SeccompCondition::new(1, Dword, Ne, request);
    allow(libc::SYS_ioctl, vec![input(libc::TIOCSTI)?, input(libc::TIOCLINUX)?])?;
    // The names of threads, and of memory (glibc).
    for option in [libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_VMA] {
        allow(libc::SYS_prctl, vec![SeccompCondition::new(0, Dword, Eq, number(option))?])?;
    }
    // Limits are read, not set.
    allow(libc::SYS_prlimit64, vec![SeccompCondition::new(2, Qword, Eq, 0)?])?;
    // abort(3) signals its own thread.
    allow(libc::SYS_tgkill, vec![SeccompCondition::new(0, Dword, Eq, own_pid.into())?])?;
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_an_attacker_needs_is_not_on_the_list() {
        let rules = allowed(1).unwrap();
        for call in [
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_ptrace,
            libc::SYS_connect,
            libc::SYS_listen,
            libc::SYS_kill,
            libc::SYS_setuid,
            libc::SYS_setresuid,
            libc::SYS_capset,
            libc::SYS_mount,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_bpf,
            libc::SYS_io_uring_setup,
            libc::SYS_init_module,
            libc::SYS_process_vm_readv,
            libc::SYS_memfd_create,
            libc::SYS_symlinkat,
            libc::SYS_linkat,
            libc::SYS_fchownat,
        ] {
            assert!(!rules.contains_key(&call), "{call}");
        }
    }

    #[test]
    fn a_call_with_conditions_has_no_unconditional_rule() {
        for call in [libc::SYS_mmap, libc::SYS_mprotect, libc::SYS_ioctl, libc::SYS_prctl, libc::SYS_clone] {
            assert!(!ALWAYS.contains(&call) && !OLDER.contains(&call), "{call}");
        }
    }
}
