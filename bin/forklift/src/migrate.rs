//! `forklift migrate FILE.ova`: the whole product for one appliance, then gone.
//!
//! It starts the embedded stack with its state in `<to>/.forklift`, writes the objects that a user of a cluster would
//! write, shows the migration live, and leaves the disks and the VirtualMachine's manifest in `<to>`. Run again after
//! a crash or a failure, it goes on where it was: the state is only removed after success.

mod objects;
mod result;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::live::{Row, State, View, rate_and_eta};
use crate::stack::Stack;
use objects::Objects;

/// Options of `forklift migrate`.
#[derive(clap::Args, Clone, Debug)]
pub struct MigrateArgs {
    /// The appliance: an .ova file, or the .ovf of an unpacked one
    pub appliance: PathBuf,
    /// Folder for the result [default: ./<appliance>-migrated]
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
    /// Which virtual machine of the appliance, when it holds several
    #[arg(long, value_name = "NAME")]
    pub vm: Option<String>,
    /// Copy the disks without converting the guest
    #[arg(long)]
    pub raw: bool,
    /// Boot the migrated machine in QEMU and show its serial console
    #[arg(long)]
    pub boot: bool,
    /// With --boot: stop when the console shows this text [default: the login prompt]
    #[arg(long, value_name = "TEXT", requires = "boot")]
    pub until: Option<String>,
    /// With --boot: give up after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 900, requires = "boot")]
    pub boot_timeout: u64,
}

/// How often the migration's status is looked at.
const LOOK: Duration = Duration::from_millis(300);
/// Until a provider answers, or a plan is judged.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs the migration.
pub async fn run(args: MigrateArgs) -> anyhow::Result<()> {
    let appliance = std::fs::canonicalize(&args.appliance)
        .with_context(|| format!("cannot open the appliance {}", args.appliance.display()))?;
    std::fs::File::open(&appliance).with_context(|| format!("cannot read the appliance {}", appliance.display()))?;
    let stem =
        appliance.file_stem().and_then(|stem| stem.to_str()).context("the appliance's name is not UTF-8")?.to_owned();
    let to = args.to.clone().unwrap_or_else(|| PathBuf::from(format!("{stem}-migrated")));
    std::fs::create_dir_all(&to).with_context(|| format!("cannot make the folder {}", to.display()))?;
    let to = std::fs::canonicalize(&to)?;
    if !args.raw && which("virt-v2v-in-place").is_none() {
        bail!(
            "virt-v2v is not installed, so the guest cannot be converted\nhint: install it (Debian: apt install virt-v2v), or copy the disks as they are with --raw"
        );
    }

    let begin = Instant::now();
    let state = to.join(".forklift");
    let (stack, mut parts) = Stack::start(&state, SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    eprintln!("embedded stack ready after {:.1} s", begin.elapsed().as_secs_f64());
    let outcome = tokio::select! {
        outcome = drive(&stack, &args, &appliance, &stem, &state) => outcome,
        error = parts.failed() => Err(error),
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted: the same command goes on where it was")),
    };
    let finished = match outcome {
        Ok(finished) => finished,
        Err(error) => {
            stack.stop(parts).await;
            return Err(error);
        }
    };
    stack.stop(parts).await;
    let made = result::collect(&finished, &state, &to)?;
    println!("\nmigrated {} in {:.0} s:", finished.vm, begin.elapsed().as_secs_f64());
    for (path, what) in made {
        println!("  {}  {what}", path.display());
    }
    Ok(())
}

/// Writes the objects, follows the migration, boots the machine.
async fn drive(
    stack: &Stack,
    args: &MigrateArgs,
    appliance: &Path,
    stem: &str,
    state: &Path,
) -> anyhow::Result<result::Finished> {
    let objects = Objects::new(stack, stem);
    objects.provider(&catalog(appliance, state)?).await?;
    let provider = objects.wait_for_provider(PATIENCE).await?;
    let inventory = objects.inventory(&provider)?;
    let vm = inventory.vm(args.vm.as_deref(), appliance, PATIENCE).await?;
    eprintln!("{}", result::describe(&vm));
    for concern in vm["concerns"].as_array().into_iter().flatten() {
        eprintln!(
            "  {}: {}",
            concern["category"].as_str().unwrap_or("Concern"),
            concern["label"].as_str().unwrap_or_default()
        );
    }
    objects.maps(&inventory).await?;
    objects.plan(&vm, args.raw).await?;
    objects.wait_for_plan(PATIENCE).await?;
    objects.migration().await?;
    follow(&objects).await?;
    let finished = objects.finished(&vm).await?;
    if args.boot {
        boot(&objects, &finished, args).await?;
    }
    Ok(finished)
}

/// Returns the folder that the provider reads: one with a link to the appliance, or else the appliance's own.
fn catalog(appliance: &Path, state: &Path) -> anyhow::Result<PathBuf> {
    let own = appliance.parent().context("the appliance is in no folder")?.to_owned();
    let (folder, Some(name)) = (state.join("catalog"), appliance.file_name()) else { return Ok(own) };
    // an unpacked appliance is more than its descriptor
    if appliance.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("ovf")) {
        return Ok(own);
    }
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let link = folder.join(name);
    match std::fs::hard_link(appliance, &link) {
        Ok(()) => Ok(folder),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            std::fs::remove_file(&link)?;
            std::fs::hard_link(appliance, &link)?;
            Ok(folder)
        }
        // another file system, or one without links
        Err(_) => Ok(own),
    }
}

/// Shows the migration until it has ended; a failure's reasons become the error.
async fn follow(objects: &Objects<'_>) -> anyhow::Result<()> {
    let mut view = View::new();
    let mut tick = tokio::time::interval(LOOK);
    loop {
        tick.tick().await;
        let plan = objects.get_plan().await?;
        let Some(vm) = plan["status"]["migration"]["vms"].get(0) else { continue };
        view.update(&rows(vm));
        if vm["completed"].is_null() {
            continue;
        }
        view.finish();
        if has_condition(vm, "Succeeded") {
            return Ok(());
        }
        let reasons: Vec<_> =
            vm["error"]["reasons"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let mut seen = HashSet::new();
        let reasons: Vec<_> = reasons.into_iter().filter(|reason| seen.insert(*reason)).collect();
        bail!(
            "the migration did not succeed: {}",
            if reasons.is_empty() { "canceled".into() } else { reasons.join("; ") }
        );
    }
}

fn rows(vm: &Value) -> Vec<Row> {
    let mut rows = Vec::new();
    for step in vm["pipeline"].as_array().into_iter().flatten() {
        let name = step["name"].as_str().unwrap_or_default();
        let state = state(step);
        let label = step["description"].as_str().unwrap_or(name).trim_end_matches('.');
        let bytes = step["annotations"]["unit"] == "MB";
        let note = match state {
            State::Running => waiting(vm).unwrap_or_default(),
            _ => String::new(),
        };
        rows.push(Row {
            key: name.into(),
            label: label.into(),
            depth: 0,
            state,
            progress: None,
            note,
            took: took(step),
        });
        for task in step["tasks"].as_array().into_iter().flatten().filter(|_| bytes) {
            let task_name = task["name"].as_str().unwrap_or_default();
            let number = |key: &str| task["annotations"][key].as_str().and_then(|text| text.parse::<f64>().ok());
            let progress = Some((
                task["progress"]["completed"].as_u64().unwrap_or(0),
                task["progress"]["total"].as_u64().unwrap_or(0),
            ));
            let task_state = self::state(task);
            let note = match task_state {
                State::Running => rate_and_eta(number("rate"), number("eta").map(|eta| eta as u64)),
                _ => String::new(),
            };
            let short = task_name.rsplit("::").next().unwrap_or(task_name);
            rows.push(Row {
                key: format!("{name}/{task_name}"),
                label: short.into(),
                depth: 1,
                state: task_state,
                progress,
                note,
                took: None,
            });
        }
    }
    rows
}

fn state(task: &Value) -> State {
    if !task["error"].is_null() {
        State::Failed
    } else if !task["completed"].is_null() {
        State::Completed
    } else if !task["started"].is_null() {
        State::Running
    } else {
        State::Pending
    }
}

/// What the migration waits for, in the words of the status.
fn waiting(vm: &Value) -> Option<String> {
    let message = vm["waitingOn"]["message"].as_str()?;
    Some(format!("({message})"))
}

fn took(step: &Value) -> Option<Duration> {
    let time = |key: &str| step[key].as_str()?.parse::<jiff::Timestamp>().ok();
    Duration::try_from(time("completed")?.duration_since(time("started")?)).ok()
}

/// Boots the machine and shows its console until the text is there.
async fn boot(objects: &Objects<'_>, finished: &result::Finished, args: &MigrateArgs) -> anyhow::Result<()> {
    let login = format!("{}login:", " ");
    let until = args.until.clone().unwrap_or(login);
    eprintln!("\nbooting {} (its serial console follows)\n", finished.vm);
    let start = Instant::now();
    objects.power(&finished.vm, true).await?;
    let shown = objects.console(&finished.vm, &until, Duration::from_secs(args.boot_timeout)).await;
    objects.power(&finished.vm, false).await?;
    objects.wait_until_off(&finished.vm, PATIENCE).await?;
    shown?;
    println!("\n\nthe guest was there {:.0} s after it was started", start.elapsed().as_secs_f64());
    Ok(())
}

/// Says whether a condition of this type is True.
fn has_condition(object: &Value, kind: &str) -> bool {
    let conditions = object["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|condition| condition["type"] == kind && condition["status"] == "True")
}

fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.is_file())
}
