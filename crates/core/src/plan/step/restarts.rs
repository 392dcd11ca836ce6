//! The restarts of a converted Windows guest: drivers and the agent are installed at its first starts.
//!
//! What the guest does is seen through its VirtualMachineInstance: whether it runs, whether its agent is connected, and
//! by its UID whether it is another instance. A restart is seen when it goes (the agent or the instance is lost) and comes
//! back as far as it was.
//!
//! ```text
//!  starts ─► runs ─► agent connected ─┬─ lost: restarting ─► agent again, for a minute ──► done
//!    │         │                      └─ nothing happens for five minutes ───────────────► done
//!    └─────────┴── too long (CONTROLLER_WINDOWS_REBOOT_TIMEOUT) ─► a warning; the migration goes on
//! ```
//! Nothing fails here: the disks are copied and converted, the VM is there.
use jiff::Timestamp;

use super::Turn;
use crate::plan::Transition;
use crate::plan::effect::Effect;
use crate::plan::pipeline::{self, StepName};
use crate::plan::state::{Task, WaitCode, stamp};
use crate::plan::world::GuestFact;

/// A guest that came back and stays for so long has restarted.
const SETTLED_SECONDS: i64 = 60;
/// A guest that does nothing for so long has nothing to restart for.
const QUIET_SECONDS: i64 = 300;
/// What a guest gets beyond its time when it is in the middle of a restart.
const EXTRA_SECONDS: i64 = 300;

/// Annotations of the step: what was seen last, since when, how far the guest ever was, how often it restarted.
const SEEN: &str = "seen";
const SINCE: &str = "since";
const FURTHEST: &str = "furthest";
const LEFT: &str = "left";
const RESTARTS: &str = "restarts";

/// How far a guest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Away,
    Running,
    Agent,
}

impl Stage {
    fn of(guest: Option<&GuestFact>) -> Self {
        match guest {
            Some(guest) if guest.running && guest.agent => Stage::Agent,
            Some(guest) if guest.running => Stage::Running,
            Some(_) | None => Stage::Away,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Stage::Away => "away",
            Stage::Running => "running",
            Stage::Agent => "agent",
        }
    }

    fn read(word: &str) -> Self {
        match word {
            "agent" => Stage::Agent,
            "running" => Stage::Running,
            _ => Stage::Away,
        }
    }
}

/// What is known of a guest, kept in the annotations of the step.
struct Watched {
    stage: Stage,
    furthest: Stage,
    left: bool,
    restarts: u32,
    /// Seconds since it is as it is.
    steady: i64,
}

/// Watches the guest until it has restarted, or for as long as it may take.
pub(super) fn watch(turn: &Turn<'_>) -> Transition {
    let (state, world) = (turn.state, turn.world);
    let mut next = state.clone();
    let Some(step) = pipeline::find(&mut next.pipeline, StepName::WaitForGuestReboots) else {
        return turn.go(next);
    };
    let began = step.task.started.get_or_insert(stamp(world.now)).as_second();
    let watched = look(&mut step.task, world.target.guest.as_ref(), world.now);
    let (restarts, steady) = (watched.restarts, watched.steady);
    let back = match watched.stage {
        Stage::Away => false,
        // a guest without an agent shows only whether it runs
        Stage::Running => watched.furthest == Stage::Running && restarts > 0 && steady >= QUIET_SECONDS,
        Stage::Agent => steady >= if restarts > 0 { SETTLED_SECONDS } else { QUIET_SECONDS },
    };
    if back {
        return turn.go(next);
    }
    let allowed = i64::from(world.plan.options.reboot_seconds);
    let allowed = allowed + if watched.left { EXTRA_SECONDS } else { 0 };
    let elapsed = world.now.as_second().saturating_sub(began);
    let stopped = world.target.vm.as_ref().is_none_or(|vm| vm.status == "Stopped");
    let why = if stopped && watched.stage == Stage::Away && steady >= SETTLED_SECONDS {
        Some("the VM was stopped before its guest had restarted".to_owned())
    } else if elapsed >= allowed {
        let minutes = elapsed / 60;
        Some(match (watched.stage, watched.furthest) {
            (Stage::Away, Stage::Away) => format!("the VM did not run within {minutes} minutes"),
            (_, Stage::Away | Stage::Running) => {
                format!("the guest's agent did not answer within {minutes} minutes, so that its restarts are not seen")
            }
            (_, Stage::Agent) => format!("the guest was still restarting after {minutes} minutes"),
        })
    } else {
        None
    };
    if let Some(why) = why {
        let message = format!(
            "{why}; the migration goes on: see on the VM's console whether Windows has finished installing its drivers"
        );
        next.restarts_unseen = Some(message.clone());
        let mut transition = turn.go(next);
        let reason = StepName::WaitForGuestReboots.as_str().to_owned();
        transition.effects.push(Effect::Event { warning: true, reason, message });
        return transition;
    }
    let doing = match (watched.stage, watched.left) {
        (Stage::Away, false) => "to start",
        (_, true) => "to come back from its restart",
        (Stage::Running, false) => "to install its agent",
        (Stage::Agent, false) if restarts > 0 => "to stay up after its restart",
        (Stage::Agent, false) => "to restart, or to stay up without a restart",
    };
    let message = format!("the Windows guest {doing} ({restarts} restarts seen)");
    turn.stay(next, Vec::new(), WaitCode::GuestRestarts, message)
}

/// Compares what is seen with what was, and notes it.
fn look(task: &mut Task, guest: Option<&GuestFact>, now: Timestamp) -> Watched {
    let notes = &mut task.annotations;
    let number = |text: Option<&String>| text.and_then(|text| text.parse::<i64>().ok());
    let stage = Stage::of(guest);
    let uid = guest.map_or("", |guest| guest.uid.as_str());
    let (before, uid_before) = match notes.get(SEEN).and_then(|seen| seen.split_once(' ')) {
        Some((word, uid)) => (Stage::read(word), uid.to_owned()),
        None => (Stage::Away, String::new()),
    };
    let furthest = notes.get(FURTHEST).map_or(Stage::Away, |word| Stage::read(word));
    let mut left = notes.contains_key(LEFT);
    let mut restarts = u32::try_from(number(notes.get(RESTARTS)).unwrap_or(0)).unwrap_or(0);
    let another = stage != Stage::Away && before != Stage::Away && uid != uid_before;
    // a guest that never ran has not left; its first start is no restart
    left |= furthest > Stage::Away && (stage < before || another);
    if left && stage >= furthest {
        left = false;
        restarts += 1;
    }
    let changed = stage != before || another || !notes.contains_key(SINCE);
    let since = if changed { now.as_second() } else { number(notes.get(SINCE)).unwrap_or(now.as_second()) };
    let furthest = furthest.max(stage);
    for (key, value) in [
        (SEEN, format!("{} {uid}", stage.word())),
        (SINCE, since.to_string()),
        (FURTHEST, furthest.word().to_owned()),
        (RESTARTS, restarts.to_string()),
    ] {
        notes.insert(key.to_owned(), value);
    }
    if left {
        notes.insert(LEFT.to_owned(), "true".to_owned());
    } else {
        notes.remove(LEFT);
    }
    Watched { stage, furthest, left, restarts, steady: now.as_second().saturating_sub(since) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap_or_default()
    }

    /// Looks at a guest every second; returns how often it restarted and whether it is away in the middle of one.
    fn seen(story: &str) -> (u32, bool) {
        let mut task = Task::default();
        let mut last = (0, false);
        for (second, letter) in (0..).zip(story.chars()) {
            let guest = |uid: &str, agent| GuestFact { uid: uid.into(), running: true, agent };
            let guest = match letter {
                'r' => Some(guest("1", false)),
                'R' => Some(guest("2", false)),
                'a' => Some(guest("1", true)),
                'A' => Some(guest("2", true)),
                's' => Some(GuestFact { uid: "1".into(), ..GuestFact::default() }),
                _ => None,
            };
            let watched = look(&mut task, guest.as_ref(), at(second));
            last = (watched.restarts, watched.left);
        }
        last
    }

    #[test]
    fn restarts_are_counted_when_the_guest_is_back_as_far_as_it_was() {
        for (story, expected) in [
            ("...sr", (0, false)),
            ("..rrra", (0, false)),
            ("rraaarr", (0, true)),
            ("rraaarraa", (1, false)),
            ("raa..Rr", (0, true)),
            ("raa..RA", (1, false)),
            ("rr.RR", (1, false)),
            ("rRrR", (3, false)),
            ("aA", (1, false)),
            ("arara", (2, false)),
        ] {
            assert_eq!(seen(story), expected, "{story}");
        }
    }
}
