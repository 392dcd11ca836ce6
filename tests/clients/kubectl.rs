//! kubectl, by a script of commands (`kubectl/script.txt`).

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use forklift_testkit::wait_for;

use crate::normalise::{difference, normalise};
use crate::servers::{Server, both};

const SCRIPT: &str = include_str!("kubectl/script.txt");

/// One line of the script and what stands above it.
struct Step {
    line: usize,
    kind: Kind,
    /// Why the servers may differ here.
    differs: Option<String>,
}

enum Kind {
    /// Runs to its end.
    Run(String),
    /// Goes on in the background, under a name.
    Start(String, String),
    /// Waits until the one in the background has printed so many lines, and ends it.
    Lines(String, usize),
}

fn steps() -> Vec<Step> {
    let (mut steps, mut differs) = (Vec::new(), None);
    for (number, line) in SCRIPT.lines().enumerate() {
        let kind = if let Some(reason) = line.strip_prefix("# differs: ") {
            differs = Some(reason.to_owned());
            continue;
        } else if let Some(command) = line.strip_prefix("$ ") {
            Kind::Run(command.to_owned())
        } else if let Some((name, command)) = line.strip_prefix("& ").and_then(|rest| rest.split_once(' ')) {
            Kind::Start(name.to_owned(), command.to_owned())
        } else if let Some((name, count)) = line.strip_prefix("= ").and_then(|rest| rest.split_once(' ')) {
            Kind::Lines(name.to_owned(), count.parse().expect("a number of lines"))
        } else {
            assert!(line.is_empty() || line.starts_with('#'), "script line {}: {line}", number + 1);
            continue;
        };
        steps.push(Step { line: number + 1, kind, differs: differs.take() });
    }
    steps
}

/// A shell whose `kubectl` speaks to one server.
struct Shell<'a> {
    server: &'a Server,
    background: Vec<(String, Child, std::path::PathBuf)>,
}

impl Shell<'_> {
    fn command(&self, line: &str) -> Command {
        let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("kubectl");
        let mut command = Command::new("sh");
        command
            .args(["-c", line])
            .current_dir(manifests)
            .env("KUBECONFIG", self.server.kubeconfig())
            .env("KUBECACHEDIR", self.server.folder().join("cache"))
            .env("TMPDIR", self.server.folder())
            .stdin(Stdio::null());
        command
    }

    fn run(&mut self, kind: &Kind) -> String {
        match kind {
            Kind::Run(line) => {
                let output = self.command(line).output().expect("sh can be started");
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                let status = output.status.code().unwrap_or(-1);
                format!("{text}{}[{status}]\n", String::from_utf8_lossy(&output.stderr))
            }
            Kind::Start(name, line) => {
                let path = self.server.folder().join(format!("{name}.out"));
                let file = std::fs::File::create(&path).expect("a file in the test's folder");
                // sh hands over to kubectl, so that killing the child ends kubectl
                let child = self.command(&format!("exec {line}")).stdout(file).spawn().expect("sh can be started");
                self.background.push((name.clone(), child, path));
                String::new()
            }
            Kind::Lines(name, count) => {
                let place = self.background.iter().position(|(known, ..)| known == name);
                let (_, mut child, path) = self.background.remove(place.expect("it was started"));
                let mut text = String::new();
                wait_for(&format!("{count} lines of {name} on {}", self.server.name), Duration::from_secs(30), || {
                    text.clear();
                    let mut file = std::fs::File::open(&path).map_err(|error| error.to_string())?;
                    file.read_to_string(&mut text).map_err(|error| error.to_string())?;
                    (text.lines().count() >= *count).then_some(()).ok_or_else(|| text.clone())
                });
                let _ = child.kill();
                let _ = child.wait();
                text.lines().take(*count).flat_map(|line| [line, "\n"]).collect()
            }
        }
    }
}

impl Drop for Shell<'_> {
    fn drop(&mut self) {
        for (_, child, _) in &mut self.background {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn kubectl_prints_the_same_on_both_servers() {
    let Some([real, ours]) = both() else { return };
    let mut shells = [&real, &ours].map(|server| Shell { server, background: Vec::new() });
    let (mut wrong, mut commands) = (String::new(), 0);
    for step in steps() {
        let text = match &step.kind {
            Kind::Run(line) | Kind::Start(_, line) => line.clone(),
            Kind::Lines(name, count) => format!("{count} lines of {name}"),
        };
        commands += usize::from(text.contains("kubectl"));
        // both at once: most of the time goes to kubectl's own start
        let [real, ours] = std::thread::scope(|scope| {
            shells.each_mut().map(|shell| scope.spawn(|| normalise(&shell.run(&step.kind)))).map(|run| run.join())
        })
        .map(|output| output.expect("a step ran"));
        match (difference(&real, &ours), &step.differs) {
            (same, None) if same.is_empty() => {}
            (same, Some(reason)) if same.is_empty() => {
                wrong += &format!("line {}: {text}\n    no longer differs ({reason}): take the mark away\n", step.line);
            }
            (lines, None) => wrong += &format!("line {}: {text}\n{lines}", step.line),
            (_, Some(_)) => {}
        }
    }
    println!("{commands} kubectl commands");
    assert!(commands >= 40, "only {commands} kubectl commands");
    assert!(wrong.is_empty(), "kube-apiserver (-) and ours (+) differ:\n{wrong}");
}
