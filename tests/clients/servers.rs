//! The two servers.

use std::path::{Path, PathBuf};

use forklift_testkit::peers::kube::KubeApiserver;

/// A running server, by its kubeconfig; ended when dropped.
pub struct Server {
    pub name: &'static str,
    folder: tempfile::TempDir,
    ours: Option<(tokio::runtime::Runtime, apiserver::Handle)>,
    peer: Option<KubeApiserver>,
}

impl Server {
    /// Starts the embedded API server.
    pub fn ours() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let config = apiserver::Config::new(folder.path().join("data"));
        let handle = runtime.block_on(apiserver::start(config)).expect("the server starts");
        std::fs::write(folder.path().join("kubeconfig"), handle.kubeconfig()).expect("a kubeconfig is written");
        Self { name: "ours", folder, ours: Some((runtime, handle)), peer: None }
    }

    /// Starts the real one; nothing where it is not installed.
    pub fn real() -> Option<Self> {
        let peer = KubeApiserver::start()?;
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::copy(peer.kubeconfig(), folder.path().join("kubeconfig")).expect("a kubeconfig is copied");
        Some(Self { name: "kube-apiserver", folder, ours: None, peer: Some(peer) })
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.peer.take());
        if let Some((runtime, handle)) = self.ours.take() {
            runtime.block_on(handle.shutdown());
        }
    }
}

/// Returns both servers, or nothing where the real one is not installed.
pub fn both() -> Option<[Server; 2]> {
    Some([Server::real()?, Server::ours()])
}
