//! Programs in Go (client-go: typed and dynamic informers, leader election) and Python, as child processes.

use std::path::Path;
use std::process::Command;

use forklift_testkit::peers;

use crate::normalise::{difference, normalise};
use crate::servers::{Server, both};

fn compare(program: &str, command: impl Fn(&Server) -> Command) {
    let Some(servers) = both() else { return };
    let outputs = servers.each_ref().map(|server| {
        let output = command(server).env("KUBECONFIG", server.kubeconfig()).output().expect("it can be started");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} on {}: {}\n{text}{errors}", server.name, output.status);
        assert!(text.lines().count() >= 10, "{program} on {} says too little:\n{text}", server.name);
        normalise(&text)
    });
    let lines = difference(&outputs[0], &outputs[1]);
    assert!(lines.is_empty(), "{program}: kube-apiserver (-) and ours (+) differ:\n{lines}");
}

#[test]
fn client_go_sees_the_same_on_both_servers() {
    let Some(program) = peers::go("client-go", "client-go") else { return };
    compare("client-go", |_| Command::new(&program));
}

#[test]
fn python_sees_the_same_on_both_servers() {
    let Some(python) = peers::python("kubernetes") else { return };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("objects.py");
    compare("Python", |_| {
        let mut command = Command::new(&python);
        command.arg(&script);
        command
    });
}
