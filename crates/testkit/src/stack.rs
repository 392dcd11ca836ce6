//! The program under test: `forklift up` in a folder, its clients, and a power cut.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::{process, program, wait_for};

/// A running `forklift up`; ended with its whole process tree when dropped.
pub struct Stack {
    folder: PathBuf,
    child: Option<Child>,
    env: Vec<(String, String)>,
}

impl Stack {
    /// Starts the stack with its state in `folder` and waits until it is ready.
    pub fn start(folder: &Path) -> Self {
        Self::start_with(folder, &[])
    }

    /// The same with more arguments for `forklift up`.
    pub fn start_with(folder: &Path, more: &[&str]) -> Self {
        let mut stack = Stack { folder: folder.into(), child: None, env: Vec::new() };
        stack.up_with(more);
        stack
    }

    /// The same with settings of the controller in its environment, each time that it is started.
    pub fn start_env(folder: &Path, env: &[(&str, &str)]) -> Self {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut stack = Stack { folder: folder.into(), child: None, env };
        stack.up_with(&[]);
        stack
    }

    /// Starts the program again after [`Stack::kill`].
    pub fn up(&mut self) {
        self.up_with(&[]);
    }

    fn up_with(&mut self, more: &[&str]) {
        let log =
            File::options().create(true).append(true).open(self.log_path()).expect("the test's folder can be written");
        let ready = self.folder.join("ready");
        let _ = std::fs::remove_file(&ready);
        let child = Command::new(program("forklift"))
            .args(["up", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(self.folder.join("data"))
            .arg("--ready-file")
            .arg(&ready)
            .args(more)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn()
            .expect("forklift can be started");
        self.child = Some(child);
        wait_for("forklift up is ready", Duration::from_secs(60), || {
            if let Some(Ok(Some(status))) = self.child.as_mut().map(Child::try_wait) {
                panic!("forklift up ended with {status}:\n{}", self.log());
            }
            ready.exists().then_some(()).ok_or_else(|| "no ready file".into())
        });
    }

    /// Kills the whole process tree with SIGKILL and reaps the program.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            process::kill_tree(child.id());
            let _ = child.wait();
        }
    }

    /// Returns the process id of the program.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map(Child::id).expect("the stack runs")
    }

    /// Returns the folder where the stack keeps its state.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Returns the path of the kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.data().join("kubeconfig")
    }

    /// Returns everything the program has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join("forklift.log")
    }

    /// Runs kubectl; returns its standard output, panics with its standard error.
    pub fn kubectl(&self, args: &[&str]) -> String {
        succeeded("kubectl", args, self.try_kubectl(args))
    }

    /// Runs kubectl and returns what came of it.
    pub fn try_kubectl(&self, args: &[&str]) -> Output {
        let mut command = Command::new("kubectl");
        command.args(args).env("KUBECONFIG", self.kubeconfig());
        command.output().expect("kubectl is installed: run `./x test`, which brings it")
    }

    /// Runs kubectl-mtv; returns its standard output, panics with its standard error.
    pub fn mtv(&self, args: &[&str]) -> String {
        succeeded("kubectl-mtv", args, self.try_mtv(args))
    }

    /// Runs kubectl-mtv and returns what came of it.
    pub fn try_mtv(&self, args: &[&str]) -> Output {
        let mut command = Command::new(program("kubectl-mtv"));
        command.args(args).env("KUBECONFIG", self.kubeconfig());
        command.output().expect("kubectl-mtv can be started")
    }

    /// Returns an object as JSON, or nothing where it does not exist.
    pub fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        let output = self.try_kubectl(&["get", kind, "-n", namespace, name, "-o", "json"]);
        output.status.success().then(|| serde_json::from_slice(&output.stdout).expect("kubectl prints JSON"))
    }

    /// Returns the items of a list as JSON.
    pub fn list(&self, kind: &str, namespace: &str) -> Vec<Value> {
        let text = self.kubectl(&["get", kind, "-n", namespace, "-o", "json"]);
        let list: Value = serde_json::from_str(&text).expect("kubectl prints JSON");
        list["items"].as_array().cloned().unwrap_or_default()
    }

    /// Waits until `holds` is true of an object; panics with the object and the log otherwise.
    pub fn wait(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
        deadline: Duration,
        mut holds: impl FnMut(&Value) -> bool,
    ) -> Value {
        wait_for(&format!("{kind} {namespace}/{name}"), deadline, || {
            let object = self.get(kind, namespace, name).ok_or("it does not exist")?;
            if holds(&object) { Ok(object) } else { Err(format!("{object:#}\n--- log ---\n{}", tail(&self.log()))) }
        })
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of forklift up ---\n{}", tail(&self.log()));
        }
        self.kill();
    }
}

/// Says whether an object has a condition of this type with status True.
pub fn has_condition(object: &Value, kind: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions
        .is_some_and(|list| list.iter().any(|condition| condition["type"] == kind && condition["status"] == "True"))
}

fn succeeded(program: &str, args: &[&str], output: Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {}: {}\n{out}\n{err}", args.join(" "), output.status);
    out.into_owned()
}

fn tail(log: &str) -> &str {
    let lines = log.rmatch_indices('\n').nth(60).map_or(0, |(at, _)| at + 1);
    &log[lines..]
}
