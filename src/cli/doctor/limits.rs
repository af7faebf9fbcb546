//! The limits of the process: open files and memory.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rustix::process::{Resource, getrlimit};

use super::Finding;
use crate::{cli::serve::files_needed, config::Config};

const ABOUT: &str = "limits";
/// What a stream on a connection of its own takes, rounded up from what was measured
/// (docs/scale.md).
const CONNECTION_BYTES: u64 = 32 << 10;
/// What the rest takes: the store's caches, queues, tokens.
const BASE_BYTES: u64 = 128 << 20;
/// Where the system mounts control groups.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Looks at what the system lets this process have. Limits are inherited: in a unit or in a
/// container they are those of the service, in a shell those of the shell.
pub(super) fn examine(config: &Config) -> Vec<Finding> {
    let max_connections = config.server.max_connections;
    let files = getrlimit(Resource::Nofile).maximum;
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let memory = memory_limit(&groups, Path::new(CGROUPS));
    vec![
        open_files(files, max_connections, files_needed(config)),
        memory_finding(memory, max_connections),
    ]
}

/// `serve` raises the limit by itself to the most that it may have.
fn open_files(most: Option<u64>, max_connections: u32, needed: u64) -> Finding {
    match most {
        Some(most) if most < needed => Finding::warning(
            ABOUT,
            format!(
                "{most} files may be open, and {max_connections} connections need {needed}: \
                 fewer are taken"
            ),
            format!(
                "raise it (LimitNOFILE={needed}, ulimit -Hn), or lower DOORBELL_MAX_CONNECTIONS"
            ),
        ),
        _ => {
            let most = most.map_or_else(|| "any number of".to_owned(), |most| most.to_string());
            Finding::ok(
                ABOUT,
                format!("{most} files may be open, enough for {max_connections} connections"),
            )
        }
    }
}

fn memory_finding(limit_bytes: Option<u64>, max_connections: u32) -> Finding {
    let needed = BASE_BYTES + u64::from(max_connections) * CONNECTION_BYTES;
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    match limit_bytes {
        None => Finding::ok(ABOUT, "no control group limits the memory"),
        Some(limit) if limit < needed => Finding::warning(
            ABOUT,
            format!(
                "the control group gives {} MiB, and {max_connections} connections with a stream \
                 each take about {} MiB",
                limit >> 20,
                mib(needed)
            ),
            "raise the limit (MemoryMax, resources.limits.memory), or lower \
             DOORBELL_MAX_CONNECTIONS",
        ),
        Some(limit) => Finding::ok(
            ABOUT,
            format!("the control group gives {} MiB of memory", limit >> 20),
        ),
    }
}

/// The least memory that the control groups of a process allow, which `/proc/self/cgroup`
/// names; a group is bounded by those that it is in.
fn memory_limit(groups: &str, mounted: &Path) -> Option<u64> {
    let limits = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let (root, file) = match controllers {
            "" => (mounted.to_owned(), "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                (mounted.join("memory"), "memory.limit_in_bytes")
            }
            _ => return None,
        };
        let path = PathBuf::from(path.trim_start_matches('/'));
        // The last one is empty, and is the root itself.
        let limits = path.ancestors().filter_map(|group| {
            let text = fs::read_to_string(root.join(group).join(file)).ok()?;
            // `max` is no number.
            text.trim().parse::<u64>().ok()
        });
        limits.min()
    });
    // The first version says "none" as a number that no machine has.
    limits.min().filter(|limit| *limit < 1 << 60)
}

#[cfg(test)]
mod tests {
    use super::{super::Level, *};

    #[test]
    fn files_are_counted_with_those_beside_connections() {
        for (most, level) in [
            (Some(164), Level::Ok),
            (Some(163), Level::Warning),
            (None, Level::Ok),
        ] {
            assert_eq!(open_files(most, 100, 164).level, level, "{most:?}");
        }
    }

    #[test]
    fn memory_is_held_against_what_connections_take() {
        let needed = (128 << 20) + 1000 * (32 << 10);
        assert_eq!(memory_finding(Some(needed), 1000).level, Level::Ok);
        assert_eq!(memory_finding(Some(needed - 1), 1000).level, Level::Warning);
        assert_eq!(memory_finding(None, u32::MAX).level, Level::Ok);
    }

    #[test]
    fn the_least_limit_of_all_groups_around_counts() {
        let mounted = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let file = mounted.path().join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        let limit = |groups: &str| memory_limit(groups, mounted.path());
        assert_eq!(limit("0::/a/b\n"), None);
        write("a/b/memory.max", "max\n");
        assert_eq!(limit("0::/a/b\n"), None);
        write("a/memory.max", "2000\n");
        assert_eq!(limit("0::/a/b\n"), Some(2000));
        write("a/b/memory.max", "1000\n");
        assert_eq!(limit("0::/a/b\n"), Some(1000));
        // In a container the own group is the root.
        write("memory.max", "3000\n");
        assert_eq!(limit("0::/\n"), Some(3000));

        write("memory/c/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(limit("5:cpu,memory:/c\n4:pids:/c\n"), None);
        write("memory/memory.limit_in_bytes", "500\n");
        assert_eq!(limit("5:cpu,memory:/c\n4:pids:/c\n"), Some(500));
    }
}
