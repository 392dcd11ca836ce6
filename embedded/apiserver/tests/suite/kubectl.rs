use std::io::Write as _;
use std::process::{Command, Stdio};

use expect_test::expect;

use crate::Fixture;

struct Kubectl {
    kubeconfig: std::path::PathBuf,
    cache: std::path::PathBuf,
}

impl Kubectl {
    /// Output and whether it went well.
    fn run(&self, arguments: &str, input: &str) -> (bool, String) {
        let mut command = Command::new("kubectl");
        command
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .arg("--cache-dir")
            .arg(&self.cache)
            .args(arguments.split(' '));
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.expect(
            "kubectl is needed for this test: `./x test` installs it, or see https://kubernetes.io/docs/tasks/tools/",
        );
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr),
        )
    }

    fn good(&self, arguments: &str, input: &str) -> String {
        let (good, text) = self.run(arguments, input);
        assert!(good, "kubectl {arguments}: {text}");
        text
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_works() {
    let f = Fixture::start().await;
    let kubeconfig = f.dir.path().join("kubeconfig");
    std::fs::write(&kubeconfig, f.server.kubeconfig()).unwrap();
    let kubectl = Kubectl { kubeconfig, cache: f.dir.path().join("cache") };
    tokio::task::spawn_blocking(move || script(&kubectl)).await.unwrap();
}

fn script(kubectl: &Kubectl) {
    let crd = crate::custom::crd().to_string();
    assert_eq!(
        kubectl.good("apply -f -", &crd),
        "customresourcedefinition.apiextensions.k8s.io/widgets.ex.io created\n"
    );
    kubectl.good("wait --for=condition=Established crd/widgets.ex.io --timeout=10s", "");
    let widget = |spec: &str| {
        format!("apiVersion: ex.io/v1\nkind: Widget\nmetadata: {{name: w, namespace: default}}\nspec: {spec}\n")
    };
    assert_eq!(kubectl.good("apply -f -", &widget("{size: 2}")), "widget.ex.io/w created\n");
    assert_eq!(kubectl.good("apply -f -", &widget("{size: 3}")), "widget.ex.io/w configured\n");
    assert_eq!(kubectl.good("apply -f -", &widget("{size: 3}")), "widget.ex.io/w unchanged\n");
    expect![[r#"
        NAME   SIZE
        w      3
    "#]]
    .assert_eq(&kubectl.good("get wd", ""));
    let (good, text) = kubectl.run("apply -f -", &widget("{size: 3, oops: 1}"));
    assert!(!good && text.contains("strict decoding error: unknown field \"spec.oops\""), "{text}");
    let (good, text) = kubectl.run("apply -f -", &widget("{size: 0}"));
    assert!(!good && text.contains("The Widget \"w\" is invalid: spec.size: Invalid value: 0"), "{text}");
    assert!(kubectl.good("explain widget.spec", "").contains("what it should be"));
    assert!(kubectl.good("explain pod.spec.containers.image", "").contains("Container image name"));
    kubectl.good("patch wd w --subresource=status --type=merge -p {\"status\":{\"phase\":\"Done\"}}", "");
    kubectl.good("wait --for=jsonpath={.status.phase}=Done wd/w --timeout=10s", "");
    // what client-side apply set is kubectl's own to change by server-side apply, what others set is not
    kubectl.good("apply --server-side -f -", &widget("{size: 4}"));
    kubectl.good("patch wd w --type=merge -p {\"spec\":{\"size\":5}}", "");
    let (good, text) = kubectl.run("apply --server-side -f -", &widget("{size: 4}"));
    assert!(
        !good
            && text
                .contains("Apply failed with 1 conflict: conflict with \"kubectl-patch\" using ex.io/v1: .spec.size"),
        "{text}"
    );
    kubectl.good("apply --server-side --force-conflicts -f -", &widget("{size: 4}"));

    kubectl.good("create configmap c --from-literal=a=b", "");
    kubectl.good("create namespace other", "");
    kubectl.good("run p --image=i:1 --restart=Never -- sleep 1", "");
    kubectl.good("label pod p x=y", "");
    kubectl.good("annotate pod p note=hi", "");
    assert!(kubectl.good("describe pod p", "").contains("note: hi"));
    let pods = kubectl.good("get pods -l x=y", "");
    assert!(
        pods.starts_with("NAME   READY   STATUS    RESTARTS   AGE\np      0/1     Pending   0          "),
        "{pods}"
    );
    assert!(kubectl.good("get all", "").contains("widget.ex.io/w"));
    assert_eq!(kubectl.good("auth can-i create pods", ""), "yes\n");
    kubectl.good("create serviceaccount bob", "");
    assert!(kubectl.good("create token bob", "").starts_with("eyJ"));
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: a, image: b}]}}}\n";
    kubectl.good("apply -f -", deployment);
    kubectl.good("scale deployment d --replicas=3", "");
    assert_eq!(kubectl.good("get deployment d -o jsonpath={.spec.replicas}", ""), "3");
    let (changed, text) = kubectl.run("diff -f -", &deployment.replace("image: b", "image: c"));
    assert!(!changed && text.contains("+        image: c") || text.contains("+      - image: c"), "{text}");
    assert_eq!(kubectl.good("delete wd w", ""), "widget.ex.io \"w\" deleted\n");
    kubectl.good("delete namespace other --timeout=20s", "");
    kubectl.good("delete deployment d --cascade=foreground --timeout=20s", "");
}
