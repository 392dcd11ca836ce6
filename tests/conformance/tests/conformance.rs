//! The suite on both servers. `CONFORMANCE=text` takes the cases whose `chapter: name` contains the text.

use conformance::{Server, cases, run};

#[tokio::test(flavor = "multi_thread")]
async fn ours() {
    let server = Server::ours().await.expect("the embedded server starts");
    if let Err(failures) = run::all(server, cases::all()).await {
        panic!("{failures}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn real() {
    let Some(server) = Server::real().await.expect("kube-apiserver starts") else { return };
    if let Err(failures) = run::all(server, cases::all()).await {
        panic!("{failures}");
    }
}
