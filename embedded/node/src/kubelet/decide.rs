//! What a pod needs next: pure decisions over the state of its containers.

use std::time::Duration;

use jiff::Timestamp;

use super::state::{Record, RestartPolicy, Role, State};

/// One container as the decision sees it.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// What it is for.
    pub role: Role,
    /// Where it is.
    pub record: &'a Record,
    /// Whether its start hook and its startup probe are through.
    pub up: bool,
}

/// What to do now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Next {
    /// Containers to start, by position.
    pub start: Vec<usize>,
    /// Containers to stop, by position.
    pub stop: Vec<usize>,
    /// When to look again, if nothing else happens.
    pub wake: Option<Timestamp>,
    /// Containers that wait for the end of their back-off.
    pub backing_off: Vec<usize>,
}

/// The phase of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not all containers have started.
    Pending,
    /// Started and not finished.
    Running,
    /// All ended with zero and none starts again.
    Succeeded,
    /// All ended, at least one not with zero, and none starts again.
    Failed,
}

impl Phase {
    /// The name in `status.phase`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
        }
    }

    /// Says whether nothing will happen any more.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

/// Decides what to start, to stop, and when to look again.
pub fn next(policy: RestartPolicy, members: &[Member<'_>], base: Duration, now: Timestamp) -> Next {
    let mut next = Next::default();
    let phase = phase(policy, members);
    if phase.is_terminal() {
        next.stop = positions(members, |member| matches!(member.record.state, State::Running { .. }));
        return next;
    }
    for (index, member) in members.iter().enumerate() {
        let again = match member.role {
            Role::Init if policy == RestartPolicy::Always => RestartPolicy::OnFailure,
            Role::Init | Role::Main => policy,
            Role::Sidecar => RestartPolicy::Always,
        };
        match &member.record.state {
            State::Created => next.start.push(index),
            State::Running { .. } => {}
            State::Exited(exit) if again.restarts(exit.code) => match member.record.restart_at(base) {
                Some(at) if at > now => {
                    next.wake = Some(next.wake.map_or(at, |wake| wake.min(at)));
                    next.backing_off.push(index);
                }
                _ => next.start.push(index),
            },
            State::Exited(_) => {}
        }
        let blocks = match member.role {
            Role::Init => !finished_well(member.record),
            Role::Sidecar => !matches!(member.record.state, State::Running { .. }) || !member.up,
            Role::Main => false,
        };
        if blocks {
            break;
        }
    }
    next
}

/// Computes the phase of a pod.
pub fn phase(policy: RestartPolicy, members: &[Member<'_>]) -> Phase {
    for member in members.iter().filter(|member| member.role == Role::Init) {
        match &member.record.state {
            State::Exited(exit) if exit.code != 0 && policy == RestartPolicy::Never => {
                return Phase::Failed;
            }
            State::Exited(exit) if exit.code == 0 => {}
            State::Created | State::Running { .. } | State::Exited(_) => return Phase::Pending,
        }
    }
    let mains = || members.iter().filter(|member| member.role == Role::Main);
    if mains().any(|member| member.record.state == State::Created) {
        return Phase::Pending;
    }
    let codes: Option<Vec<i32>> = mains()
        .map(|member| match &member.record.state {
            State::Exited(exit) if !policy.restarts(exit.code) => Some(exit.code),
            State::Created | State::Running { .. } | State::Exited(_) => None,
        })
        .collect();
    match codes {
        None => Phase::Running,
        Some(codes) if codes.iter().all(|code| *code == 0) => Phase::Succeeded,
        Some(_) => Phase::Failed,
    }
}

/// Says whether all init containers have done their work, so that main containers may run.
pub fn initialized(members: &[Member<'_>]) -> bool {
    members.iter().all(|member| match member.role {
        Role::Init => finished_well(member.record),
        Role::Sidecar => member.record.state != State::Created,
        Role::Main => true,
    })
}

fn finished_well(record: &Record) -> bool {
    matches!(&record.state, State::Exited(exit) if exit.code == 0)
}

fn positions(members: &[Member<'_>], wanted: impl Fn(&Member<'_>) -> bool) -> Vec<usize> {
    members.iter().enumerate().filter(|(_, member)| wanted(member)).map(|(index, _)| index).collect()
}

#[cfg(test)]
mod tests {
    use super::super::state::Exit;
    use super::*;
    use Role::{Init, Main, Sidecar};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    /// `.` created, `r` running, a digit: exited with that code.
    fn record(letter: char) -> Record {
        let mut record = Record::default();
        if letter == '.' {
            return record;
        }
        record.started(1, 1, at(0));
        if let Some(code) = letter.to_digit(10) {
            record.exited(Exit {
                code: code as i32,
                reason: String::new(),
                message: None,
                started: at(0),
                finished: at(1),
            });
        }
        record
    }

    fn decide(policy: RestartPolicy, pod: &[(Role, char)]) -> (String, &'static str) {
        let records: Vec<Record> = pod.iter().map(|(_, letter)| record(*letter)).collect();
        let members: Vec<Member<'_>> =
            pod.iter().zip(&records).map(|((role, _), record)| Member { role: *role, record, up: true }).collect();
        let next = next(policy, &members, Duration::from_secs(10), at(100));
        let phase = phase(policy, &members).name();
        (format!("start {:?} stop {:?}", next.start, next.stop), phase)
    }

    #[test]
    fn pods_move_on_as_kubernetes_says() {
        use RestartPolicy::{Always, Never, OnFailure};
        let cases: [(RestartPolicy, &[(Role, char)], &str, &str); 16] = [
            (Always, &[(Main, '.')], "start [0] stop []", "Pending"),
            (Always, &[(Main, '.'), (Main, '.')], "start [0, 1] stop []", "Pending"),
            (Always, &[(Main, 'r')], "start [] stop []", "Running"),
            (Always, &[(Main, '0')], "start [0] stop []", "Running"),
            (OnFailure, &[(Main, '0')], "start [] stop []", "Succeeded"),
            (OnFailure, &[(Main, '1')], "start [0] stop []", "Running"),
            (Never, &[(Main, '1')], "start [] stop []", "Failed"),
            (Never, &[(Main, '0'), (Main, 'r')], "start [] stop []", "Running"),
            (Never, &[(Main, '0'), (Main, '2')], "start [] stop []", "Failed"),
            (Never, &[(Init, '.'), (Init, '.'), (Main, '.')], "start [0] stop []", "Pending"),
            (Never, &[(Init, '0'), (Init, 'r'), (Main, '.')], "start [] stop []", "Pending"),
            (Never, &[(Init, '0'), (Init, '0'), (Main, '.')], "start [2] stop []", "Pending"),
            (Never, &[(Init, '1'), (Main, '.')], "start [] stop []", "Failed"),
            (Always, &[(Init, '0'), (Main, 'r')], "start [] stop []", "Running"),
            (Never, &[(Sidecar, 'r'), (Main, '.')], "start [1] stop []", "Pending"),
            (Never, &[(Sidecar, 'r'), (Main, '0')], "start [] stop [0]", "Succeeded"),
        ];
        for (policy, pod, actions, phase) in cases {
            assert_eq!(decide(policy, pod), (actions.to_owned(), phase), "{policy:?} {pod:?}");
        }
    }

    #[test]
    fn back_off_is_waited_for() {
        let mut record = record('1');
        record.failures = 2;
        let members = [Member { role: Main, record: &record, up: true }];
        let next = next(RestartPolicy::Always, &members, Duration::from_secs(10), at(5));
        assert_eq!(next, Next { wake: Some(at(11)), backing_off: vec![0], ..Next::default() });
    }
}
