//! A real Kubernetes control plane: etcd, kube-apiserver and the controllers that every API client relies on.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

use crate::{peers, process};

/// The administrator's bearer token; she is in the group system:masters.
pub const TOKEN: &str = "administrator-of-the-peer";

/// The controllers that a client sees at work on API objects; those of workloads are left out, there is no node.
const CONTROLLERS: &str = "garbage-collector-controller,namespace-controller,serviceaccount-controller,\
    serviceaccount-token-controller,legacy-serviceaccount-token-cleaner-controller,\
    root-ca-certificate-publisher-controller,clusterrole-aggregation-controller,disruption-controller,\
    persistentvolumeclaim-protection-controller,persistentvolume-protection-controller";

/// A running control plane in a folder of its own; ended when dropped.
pub struct KubeApiserver {
    folder: PathBuf,
    url: String,
    children: Vec<Child>,
    ready_after: Duration,
}

impl KubeApiserver {
    /// Starts etcd, kube-apiserver and kube-controller-manager and waits until they answer.
    ///
    /// Returns nothing where a program is missing (see [`peers`]).
    ///
    /// # Panics
    /// Where a program is there and does not come up; its log is in the message.
    pub fn start() -> Option<Self> {
        Self::start_with(true)
    }

    /// As [`Self::start`], without kube-controller-manager where `controllers` is false.
    pub fn start_with(controllers: bool) -> Option<Self> {
        let programs = Programs {
            etcd: peers::go("etcd", "server")?,
            apiserver: peers::go("kubernetes", "kube-apiserver")?,
            manager: peers::go("kubernetes", "kube-controller-manager")?,
        };
        // ports are taken before they are used, so another process may be quicker
        let mut last = None;
        for _ in 0..3 {
            match Self::try_start(&programs, controllers) {
                Ok(server) => return Some(server),
                Err(error) => last = Some(error),
            }
        }
        panic!("kube-apiserver does not come up: {:#}", last.expect("three tries failed"));
    }

    fn try_start(programs: &Programs, controllers: bool) -> Result<Self> {
        let folder =
            std::env::temp_dir().join(format!("forklift-peer-kube-{}-{}", std::process::id(), peers::free_port()?));
        fs::create_dir_all(&folder)?;
        let port = peers::free_port()?;
        let url = format!("https://127.0.0.1:{port}");
        let mut server = Self { folder, url, children: Vec::new(), ready_after: Duration::ZERO };
        server.write_keys()?;
        let begin = Instant::now();
        server.launch(programs, port)?;
        server.wait_ready()?;
        server.ready_after = begin.elapsed();
        if controllers {
            server.launch_controllers(programs)?;
        }
        Ok(server)
    }

    fn launch(&mut self, programs: &Programs, port: u16) -> Result<()> {
        let (client, peer) = (peers::free_port()?, peers::free_port()?);
        let etcd_url = format!("http://127.0.0.1:{client}");
        let folder = self.folder.clone();
        let file = |name: &str| folder.join(name).display().to_string();
        self.spawn(
            &programs.etcd,
            &[
                "--data-dir",
                &file("etcd"),
                "--listen-client-urls",
                &etcd_url,
                "--advertise-client-urls",
                &etcd_url,
                "--listen-peer-urls",
                &format!("http://127.0.0.1:{peer}"),
                "--initial-advertise-peer-urls",
                &format!("http://127.0.0.1:{peer}"),
                "--initial-cluster",
                &format!("default=http://127.0.0.1:{peer}"),
            ],
        )?;
        self.spawn(
            &programs.apiserver,
            &[
                "--etcd-servers",
                &etcd_url,
                "--bind-address",
                "127.0.0.1",
                "--secure-port",
                &port.to_string(),
                "--cert-dir",
                &file("certs"),
                "--client-ca-file",
                &file("client-ca.crt"),
                "--requestheader-client-ca-file",
                &file("client-ca.crt"),
                "--requestheader-allowed-names",
                "front-proxy",
                "--requestheader-username-headers",
                "X-Remote-User",
                "--requestheader-group-headers",
                "X-Remote-Group",
                "--requestheader-extra-headers-prefix",
                "X-Remote-Extra-",
                "--proxy-client-cert-file",
                &file("front-proxy.crt"),
                "--proxy-client-key-file",
                &file("front-proxy.key"),
                "--token-auth-file",
                &file("tokens.csv"),
                "--authorization-mode",
                "RBAC",
                "--service-account-issuer",
                "https://kubernetes.default.svc",
                "--service-account-key-file",
                &file("accounts.pub"),
                "--service-account-signing-key-file",
                &file("accounts.key"),
                "--service-cluster-ip-range",
                "10.96.0.0/16",
                // the `kubernetes` endpoint may not be a loopback address
                "--endpoint-reconciler-type",
                "none",
                "--allow-privileged",
                "--profiling=false",
                // on by default in the releases before and after this one
                "--feature-gates",
                "WatchList=true",
            ],
        )
    }

    fn launch_controllers(&mut self, programs: &Programs) -> Result<()> {
        let folder = self.folder.clone();
        let file = |name: &str| folder.join(name).display().to_string();
        self.spawn(
            &programs.manager,
            &[
                "--kubeconfig",
                &file("kubeconfig"),
                "--controllers",
                &CONTROLLERS.replace(char::is_whitespace, ""),
                "--service-account-private-key-file",
                &file("accounts.key"),
                "--root-ca-file",
                &file("certs/apiserver.crt"),
                "--leader-elect=false",
                "--secure-port",
                "0",
                "--kube-api-qps",
                "200",
                "--kube-api-burst",
                "400",
            ],
        )
    }

    fn spawn(&mut self, program: &Path, args: &[&str]) -> Result<()> {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let log = File::create(self.folder.join(format!("{name}.log")))?;
        let child = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        self.children.push(child);
        Ok(())
    }

    fn wait_ready(&mut self) -> Result<()> {
        let begin = Instant::now();
        loop {
            for child in &mut self.children {
                if let Some(status) = child.try_wait()? {
                    bail!("a program ended with {status}: {}", self.logs());
                }
            }
            let answer = Command::new("kubectl")
                .args(["get", "--raw", "/readyz"])
                .env("KUBECONFIG", self.kubeconfig())
                .output()
                .context("cannot run kubectl")?;
            if answer.status.success() {
                return Ok(());
            }
            if begin.elapsed() > Duration::from_secs(120) {
                bail!("not ready after two minutes ({}): {}", String::from_utf8_lossy(&answer.stderr), self.logs());
            }
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }

    fn write_keys(&self) -> Result<()> {
        fs::create_dir_all(self.folder.join("certs"))?;
        let write = |name: &str, text: &str| fs::write(self.folder.join(name), text);
        write("tokens.csv", &format!("{TOKEN},admin,admin-uid,\"system:masters\"\n"))?;
        let accounts = KeyPair::generate()?;
        write("accounts.key", &accounts.serialize_pem())?;
        write("accounts.pub", &accounts.public_key_pem())?;
        let key = KeyPair::generate()?;
        write("client-ca.crt", &client_authority().self_signed(&key)?.pem())?;
        write("client-ca.key", &key.serialize_pem())?;
        let (certificate, key) = self.client_certificate("front-proxy", &[])?;
        write("front-proxy.crt", &certificate)?;
        write("front-proxy.key", &key)?;
        // the server makes its own certificate at the first start, so clients cannot know it beforehand
        write(
            "kubeconfig",
            &format!(
                "apiVersion: v1\nkind: Config\ncurrent-context: peer\n\
                 clusters: [{{name: peer, cluster: {{server: '{}', insecure-skip-tls-verify: true}}}}]\n\
                 users: [{{name: admin, user: {{token: {TOKEN}}}}}]\n\
                 contexts: [{{name: peer, context: {{cluster: peer, user: admin}}}}]\n",
                self.url
            ),
        )?;
        Ok(())
    }

    /// Returns a client certificate and its key (PEM) for a user and her groups.
    ///
    /// # Errors
    /// Where the server's keys cannot be read.
    pub fn client_certificate(&self, user: &str, groups: &[&str]) -> Result<(String, String)> {
        let ca_key = KeyPair::from_pem(&fs::read_to_string(self.folder.join("client-ca.key"))?)?;
        let issuer = Issuer::new(client_authority(), ca_key);
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, user);
        for group in groups {
            params.distinguished_name.push(DnType::OrganizationName, *group);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        Ok((params.signed_by(&key, &issuer)?.pem(), key.serialize_pem()))
    }

    /// Returns the path of the administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// Returns the server's address, `https://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the administrator's bearer token.
    pub fn token(&self) -> &str {
        TOKEN
    }

    /// Returns the certificate (PEM) that the server shows; it is its own issuer.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn ca(&self) -> Result<String> {
        fs::read_to_string(self.folder.join("certs/apiserver.crt")).context("the server's certificate")
    }

    /// Returns the time from the start of etcd to the first answer of /readyz.
    pub fn ready_after(&self) -> Duration {
        self.ready_after
    }

    /// Returns the process ids: etcd, kube-apiserver and, where it runs, kube-controller-manager.
    pub fn pids(&self) -> Vec<u32> {
        self.children.iter().map(Child::id).collect()
    }

    /// Returns the resident memory of etcd and kube-apiserver together, in bytes.
    pub fn resident(&self) -> u64 {
        self.pids().into_iter().take(2).filter_map(process::resident_memory).sum()
    }

    /// Returns the last lines of each program's log.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|kind| kind == "log") {
                let log = fs::read_to_string(entry.path()).unwrap_or_default();
                let last: Vec<&str> = log.lines().rev().take(15).collect();
                text += &format!("\n--- {}\n", entry.file_name().to_string_lossy());
                text.extend(last.into_iter().rev().flat_map(|line| [line, "\n"]));
            }
        }
        text
    }
}

impl Drop for KubeApiserver {
    fn drop(&mut self) {
        // the controllers first, so that nobody writes to a store that is going away
        for child in self.children.iter_mut().rev() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// What the certificate of the authority for client certificates says.
fn client_authority() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params.distinguished_name.push(DnType::CommonName, "clients");
    params
}

struct Programs {
    etcd: PathBuf,
    apiserver: PathBuf,
    manager: PathBuf,
}
