//! The hook worker: runs a plan's playbook with the Ansible that is installed here.
//!
//! Upstream's hook image is entered by `/bin/entrypoint ansible-runner run /tmp/runner -p /tmp/hook/playbook.yml`.
//! This worker takes the same words, in a container of our image or in the embedded node, where there is no image:
//!
//! ```text
//! forklift worker hook-runner [/bin/entrypoint] ansible-runner run /tmp/runner -p /tmp/hook/playbook.yml
//! ```
//! The playbook finds `plan.yml` and `workload.yml` beside itself. Ansible is looked for on PATH, then where
//! `./x setup` puts it. The exit code is Ansible's.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use forklift_api::worker::{EXIT_PERMANENT, WorkerError};

use crate::conversion::Tools;

/// Where the hook's ConfigMap is mounted.
const PLAYBOOK: &str = "/tmp/hook/playbook.yml";

/// What a hook's container is asked to run.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Request {
    /// The folder of ansible-runner, from which an inventory is taken if it has one.
    runner_dir: PathBuf,
    playbook: PathBuf,
}

#[derive(Debug, thiserror::Error)]
enum HookError {
    #[error("the hook's playbook {0} is not there")]
    NoPlaybook(PathBuf),
    #[error("neither ansible-runner nor ansible-playbook is installed on this machine")]
    ToolMissing,
    #[error("the hook's playbook failed with exit code {0}")]
    Failed(i32),
    #[error("cannot {0}: {1}")]
    Io(String, std::io::Error),
}

/// Runs the worker with the process's arguments and environment.
pub async fn run() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    let words = match words.iter().position(|w| w == "hook-runner") {
        Some(index) => &words[index + 1..],
        None => &words[..],
    };
    let env = |key: &str| std::env::var_os(key);
    match run_hook(&parse(words), env).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let code = match error {
                HookError::Failed(code) => u8::try_from(code).unwrap_or(1),
                HookError::NoPlaybook(_) | HookError::ToolMissing => EXIT_PERMANENT,
                HookError::Io(..) => 1,
            };
            let error = describe(&error);
            eprintln!("error: {}", error.message);
            if let Some(hint) = &error.hint {
                eprintln!("hint: {hint}");
            }
            let log = env("TERMINATION_LOG").unwrap_or_else(|| "/dev/termination-log".into());
            if let Ok(text) = serde_json::to_string(&error) {
                let _ = fs::write(log, text); // outside of a pod there is none
            }
            ExitCode::from(code)
        }
    }
}

fn describe(error: &HookError) -> WorkerError {
    let (code, hint, retryable) = match error {
        HookError::NoPlaybook(_) => ("NoPlaybook", "set the hook's spec.playbook", false),
        HookError::ToolMissing => {
            ("ToolMissing", "install it (`./x setup`, or pip install ansible-core ansible-runner)", false)
        }
        HookError::Failed(_) => ("PlaybookFailed", "see the hook pod's log for the task that failed", true),
        HookError::Io(..) => ("Io", "see the hook pod's log", true),
    };
    WorkerError { code: code.into(), message: error.to_string(), hint: Some(hint.into()), retryable }
}

/// Reads `[/bin/entrypoint] ansible-runner run DIR -p PLAYBOOK`; what is not given has upstream's value.
fn parse(words: &[String]) -> Request {
    let mut request = Request { runner_dir: "/tmp/runner".into(), playbook: PLAYBOOK.into() };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "run" => request.runner_dir = words.next().map_or(request.runner_dir, PathBuf::from),
            "-p" | "--playbook" => request.playbook = words.next().map_or(request.playbook, PathBuf::from),
            _ => {}
        }
    }
    request
}

async fn run_hook(request: &Request, env: impl Fn(&str) -> Option<OsString>) -> Result<(), HookError> {
    let playbook = request.playbook.canonicalize().map_err(|_| HookError::NoPlaybook(request.playbook.clone()))?;
    let path = search_path(&env);
    let find = |name: &str| std::env::split_paths(&path).map(|dir| dir.join(name)).find(|p| p.is_file());
    let playbook_tool = find("ansible-playbook").ok_or(HookError::ToolMissing)?;

    let work = WorkDir::new(&request.runner_dir)?;
    let mut tools = Tools::on_path();
    tools.env = vec![
        ("PATH".into(), path.clone()),
        ("ANSIBLE_LOCALHOST_WARNING".into(), "False".into()),
        ("ANSIBLE_RETRY_FILES_ENABLED".into(), "False".into()),
        ("ANSIBLE_HOME".into(), work.path.join("home").into_os_string()),
        ("ANSIBLE_LOCAL_TEMP".into(), work.path.join("tmp").into_os_string()),
    ];
    let inventory = work.path.join("inventory/hosts");
    let (program, args): (PathBuf, Vec<OsString>) = match find("ansible-runner") {
        Some(runner) => (runner, vec!["run".into(), work.path.clone().into(), "-p".into(), playbook.into()]),
        None => (playbook_tool, vec!["-i".into(), inventory.into(), playbook.into()]),
    };
    let status = tools
        .run_lines(&program, &args, |line| println!("{line}"))
        .await
        .map_err(|error| HookError::Io(format!("run {}", program.display()), std::io::Error::other(error)))?;
    match status.code() {
        Some(0) => Ok(()),
        code => Err(HookError::Failed(code.unwrap_or(-1))),
    }
}

/// PATH, and after it the folder that `./x setup` installs Ansible into.
fn search_path(env: &impl Fn(&str) -> Option<OsString>) -> OsString {
    let cache =
        env("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| env("HOME").map(|home| PathBuf::from(home).join(".cache")));
    let mut dirs: Vec<PathBuf> = env("PATH").map(|p| std::env::split_paths(&p).collect()).unwrap_or_default();
    dirs.extend(cache.map(|c| c.join("forklift/venv/bin")));
    std::env::join_paths(dirs).unwrap_or_default()
}

/// ansible-runner's private data folder: of this run alone, so that hooks that run at the same time in the embedded
/// node do not meet in /tmp/runner. Removed at the end.
struct WorkDir {
    path: PathBuf,
}

impl WorkDir {
    fn new(template: &Path) -> Result<Self, HookError> {
        let path = std::env::temp_dir().join(format!("forklift-hook-{}", std::process::id()));
        let io = |error| HookError::Io(format!("prepare {}", path.display()), error);
        let make = |dir: &Path| fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
        make(&path).map_err(io)?;
        let work = Self { path: path.clone() };
        make(&path.join("inventory")).map_err(io)?;
        // an image may bring hosts of its own
        let hosts = fs::read_to_string(template.join("inventory/hosts")).unwrap_or_else(|_| {
            "localhost ansible_connection=local ansible_python_interpreter='{{ ansible_playbook_python }}'\n".into()
        });
        fs::write(path.join("inventory/hosts"), hosts).map_err(io)?;
        Ok(work)
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn upstreams_command_is_understood() {
        let expected = Request { runner_dir: "/tmp/runner".into(), playbook: "/tmp/hook/playbook.yml".into() };
        assert_eq!(parse(&words("/bin/entrypoint ansible-runner run /tmp/runner -p /tmp/hook/playbook.yml")), expected);
        assert_eq!(parse(&[]), expected);
        assert_eq!(parse(&words("ansible-runner run /r -p /x.yml")).playbook, PathBuf::from("/x.yml"));
    }

    #[tokio::test]
    async fn a_missing_playbook_and_missing_ansible_are_told_apart() {
        let request = Request { runner_dir: "/tmp/runner".into(), playbook: "/nonexistent.yml".into() };
        assert_eq!(describe(&run_hook(&request, |_| None).await.unwrap_err()).code, "NoPlaybook");
        let file = tempfile::NamedTempFile::new().unwrap();
        let request = Request { playbook: file.path().into(), ..request };
        let error = describe(&run_hook(&request, |_| None).await.unwrap_err());
        assert_eq!((error.code.as_str(), error.retryable), ("ToolMissing", false));
    }

    /// A real playbook that reads what a hook is given; one that fails ends with Ansible's exit code.
    #[tokio::test]
    async fn a_playbook_reads_the_plan_and_the_workload() {
        let env = |key: &str| std::env::var_os(key);
        if !std::env::split_paths(&search_path(&env)).any(|dir| dir.join("ansible-playbook").is_file()) {
            assert!(env("REQUIRE_PEERS").is_none(), "Ansible is missing: ./x setup");
            eprintln!("skipped: Ansible (./x setup)");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name);
        fs::write(file("plan.yml"), "targetNamespace: apps\n").unwrap();
        fs::write(file("workload.yml"), "vm:\n  name: webserver01\n").unwrap();
        let playbook = "- hosts: localhost\n  gather_facts: false\n  tasks:\n  \
            - include_vars: {file: plan.yml, name: plan}\n  \
            - include_vars: {file: workload.yml, name: workload}\n  \
            - fail: {msg: no plan}\n    when: plan.targetNamespace != 'apps'\n  \
            - copy: {content: '{{ workload.vm.name }}', dest: '{{ playbook_dir }}/seen'}\n";
        fs::write(file("playbook.yml"), playbook).unwrap();
        let request = Request { runner_dir: "/tmp/runner".into(), playbook: file("playbook.yml") };
        run_hook(&request, env).await.unwrap();
        assert_eq!(fs::read_to_string(file("seen")).unwrap(), "webserver01");

        fs::write(file("plan.yml"), "targetNamespace: other\n").unwrap();
        let error = run_hook(&request, env).await.unwrap_err();
        assert!(matches!(error, HookError::Failed(2)), "{error}");
    }
}
