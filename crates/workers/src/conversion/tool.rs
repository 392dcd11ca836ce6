//! Runs the programs that the conversion consists of.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use super::error::ConversionError;

/// The programs, and the environment that they run in.
#[derive(Debug, Clone)]
pub struct Tools {
    /// `virt-v2v-in-place`.
    pub virt_v2v: PathBuf,
    /// `qemu-img`.
    pub qemu_img: PathBuf,
    /// `guestfish`.
    pub guestfish: PathBuf,
    /// `virt-customize`.
    pub virt_customize: PathBuf,
    /// Variables for all of them.
    pub env: Vec<(String, OsString)>,
}

impl Tools {
    /// The programs as they are found on PATH.
    pub fn on_path() -> Self {
        Self {
            virt_v2v: "virt-v2v-in-place".into(),
            qemu_img: "qemu-img".into(),
            guestfish: "guestfish".into(),
            virt_customize: "virt-customize".into(),
            env: Vec::new(),
        }
    }

    /// A command for one of the programs. It does not outlive the worker: a conversion that went on after the
    /// worker was killed would write to an overlay that the next worker has begun anew.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = std::process::Command::new(program);
        command.envs(self.env.iter().map(|(k, v)| (k, v))).stdin(Stdio::null());
        // SAFETY: prctl is a single system call, safe between fork and exec
        #[expect(unsafe_code, reason = "only pre_exec can tie a child's life to ours")]
        unsafe {
            command.pre_exec(|| {
                rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
                Ok(())
            });
        }
        let mut command = Command::from(command);
        command.kill_on_drop(true);
        command
    }

    /// Runs a program and hands over each line that it prints, on stdout or stderr.
    pub async fn run_lines(
        &self,
        program: &Path,
        args: &[OsString],
        mut line: impl FnMut(&str),
    ) -> Result<ExitStatus, ConversionError> {
        let io_error = || ConversionError::io(format!("run {}", program.display()));
        // one pipe for both, so that their order is kept
        let (reader, writer) = io::pipe().map_err(io_error())?;
        let mut command = self.command(program);
        command.args(args).stdout(writer.try_clone().map_err(io_error())?).stderr(writer);
        let spawned = command.spawn();
        drop(command); // closes our copies of the pipe's end
        let mut child = spawned.map_err(|error| missing(program, error))?;
        let reader = tokio::net::unix::pipe::Receiver::from_owned_fd(reader.into()).map_err(io_error())?;
        let mut lines = BufReader::new(reader);
        let mut buffer = Vec::new();
        loop {
            buffer.clear();
            match lines.read_until(b'\n', &mut buffer).await {
                Ok(0) => break,
                Ok(_) => line(String::from_utf8_lossy(&buffer).trim_end()),
                Err(error) => return Err(io_error()(error)),
            }
        }
        child.wait().await.map_err(io_error())
    }

    /// Runs a program that says little; its last lines explain a failure.
    pub async fn run(&self, program: &Path, args: &[OsString]) -> Result<(), ConversionError> {
        let mut said = Vec::new();
        let status = self.run_lines(program, args, |line| said.push(line.to_owned())).await?;
        if status.success() {
            return Ok(());
        }
        let text = said.iter().rev().take(3).rev().cloned().collect::<Vec<_>>().join("; ");
        if text.contains("No space left on device") {
            return Err(ConversionError::NoSpace { place: text });
        }
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Err(ConversionError::Io { action: format!("run {name}"), source: io::Error::other(text) })
    }
}

/// A program that cannot be started is either not there, or something is wrong with the machine.
pub fn missing(program: &Path, error: io::Error) -> ConversionError {
    if error.kind() == io::ErrorKind::NotFound {
        ConversionError::ToolMissing { tool: program.file_name().unwrap_or_default().to_string_lossy().into_owned() }
    } else {
        ConversionError::io(format!("run {}", program.display()))(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_outputs_come_in_their_order() {
        let mut lines = Vec::new();
        let args = ["-c", "echo one; echo two >&2; echo three; exit 4"].map(OsString::from);
        let status = Tools::on_path().run_lines(Path::new("sh"), &args, |l| lines.push(l.to_owned())).await.unwrap();
        assert_eq!((lines, status.code()), (vec!["one".into(), "two".into(), "three".into()], Some(4)));
    }

    #[tokio::test]
    async fn a_missing_program_says_how_to_install_it() {
        let error =
            Tools::on_path().run(Path::new("/nonexistent/virt-v2v-in-place"), &[]).await.unwrap_err().to_worker_error();
        assert_eq!(
            (error.code.as_str(), error.message.as_str()),
            ("ToolMissing", "virt-v2v-in-place is not installed on this machine")
        );
        assert!(error.hint.unwrap().contains("apt-get install virt-v2v"));
        assert!(!error.retryable);
    }
}
