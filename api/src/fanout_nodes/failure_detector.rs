//! Detects fan-out processes that died, by the heartbeats that this node has received.
//!
//! What must hold: silence counts only while this node receives its own heartbeats, by the same subscription as those
//! of others. So a broker that stalls, or a node that was cut off or stopped, makes no other process look dead.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

/// A process that is silent for this long, while this node receives heartbeats, is dead.
const DEAD_AFTER: Duration = Duration::from_secs(10);
/// If this node has not received its own heartbeat for this long, it may have missed those of others.
const ECHO_GAP_MAX: Duration = Duration::from_secs(5);
/// A dead process is forgotten this long after its last heartbeat or report.
const FORGET_AFTER: Duration = Duration::from_secs(3_600);

#[derive(Clone, Copy)]
enum NodeState {
    /// When its last heartbeat was received, or when it was first noticed.
    Alive(Instant),
    /// Declared dead; when it was last noticed.
    Dead(Instant),
}

/// The states of all processes that this node knows of.
#[derive(Default)]
pub(super) struct FailureDetector {
    processes: HashMap<u64, NodeState>,
    /// Since when this node has received its own heartbeats without a gap, and when it received the last one.
    echo_window: Option<(Instant, Instant)>,
}

impl FailureDetector {
    /// Records a heartbeat of a process. Returns false if the process was declared dead and does not know it yet.
    pub(super) fn note_alive(&mut self, process: u64, now: Instant) -> bool {
        let state = self.processes.entry(process).or_insert(NodeState::Alive(now));
        match state {
            NodeState::Alive(heard_at) => *heard_at = now,
            NodeState::Dead(heard_at) => *heard_at = now,
        }
        matches!(state, NodeState::Alive(_))
    }

    /// Records that Postgres has people of a process. Returns true if it was declared dead: then they must leave too.
    pub(super) fn note_has_people(&mut self, process: u64, now: Instant) -> bool {
        let state = self.processes.entry(process).or_insert(NodeState::Alive(now));
        if let NodeState::Dead(heard_at) = state {
            *heard_at = now;
        }
        matches!(state, NodeState::Dead(_))
    }

    /// Records a heartbeat of this node itself. Returns the processes that are declared dead now.
    pub(super) fn note_echo(&mut self, now: Instant) -> Vec<u64> {
        let since = match self.echo_window {
            Some((since, last)) if now - last <= ECHO_GAP_MAX => since,
            _ => now,
        };
        self.echo_window = Some((since, now));
        let mut dead = Vec::new();
        self.processes.retain(|process, state| match *state {
            NodeState::Alive(heard_at) => {
                if now - heard_at.max(since) >= DEAD_AFTER {
                    *state = NodeState::Dead(now);
                    dead.push(*process);
                }
                true
            }
            NodeState::Dead(heard_at) => now - heard_at < FORGET_AFTER,
        });
        dead
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns which processes are declared dead and when, given the seconds of this node's heartbeats and of
    /// others'.
    fn run(echoes: &[u64], alive: &[(u64, u64)]) -> Vec<(u64, u64)> {
        let start = Instant::now();
        let at = |second: u64| start + Duration::from_secs(second);
        let mut lives = FailureDetector::default();
        let mut dead = Vec::new();
        for second in 0..100 {
            for (_, process) in alive.iter().filter(|(heard_at, _)| *heard_at == second) {
                lives.note_alive(*process, at(second));
            }
            if echoes.contains(&second) {
                dead.extend(lives.note_echo(at(second)).into_iter().map(|process| (second, process)));
            }
        }
        dead
    }

    fn every_two(seconds: std::ops::Range<u64>) -> Vec<u64> {
        seconds.step_by(2).collect()
    }

    #[test]
    fn node_is_dead_after_ten_silent_seconds() {
        let alive: Vec<_> = (0..=20).step_by(2).map(|second| (second, 7)).collect();
        assert_eq!(run(&every_two(0..28), &alive), []);
        assert_eq!(run(&every_two(0..60), &alive), [(30, 7)], "once");
    }

    #[test]
    fn isolated_node_declares_nobody_dead() {
        assert_eq!(run(&[0, 2, 4], &[(0, 7)]), [], "it never hears again");
        let echoes: Vec<_> = [0, 2, 4].into_iter().chain(every_two(34..60)).collect();
        assert_eq!(run(&echoes, &[(4, 7)]), [(44, 7)], "it hears again since 34");
        assert_eq!(run(&echoes, &[(4, 7), (36, 7), (44, 7), (52, 7)]), [], "so does the other");
        let rarely: Vec<_> = (0..100).step_by(6).collect();
        assert_eq!(run(&rarely, &[(0, 7)]), [], "it never heard for long enough");
    }

    #[test]
    fn unknown_node_with_people_gets_the_same_time() {
        let (mut lives, start) = (FailureDetector::default(), Instant::now());
        let at = |second: u64| start + Duration::from_secs(second);
        let mut dead = vec![];
        for second in every_two(0..14) {
            assert!(!lives.note_has_people(7, at(second)), "not dead at {second}");
            dead = lives.note_echo(at(second));
            if !dead.is_empty() {
                assert_eq!(second, 10);
                break;
            }
        }
        assert_eq!(dead, [7]);
        assert!(lives.note_has_people(7, at(14)), "more of them came to light");
        assert!(!lives.note_alive(7, at(15)), "it has to be told");
        assert!(lives.note_alive(8, at(15)));
    }

    #[test]
    fn dead_nodes_are_forgotten_after_a_while() {
        let (mut lives, start) = (FailureDetector::default(), Instant::now());
        let at = |second: u64| start + Duration::from_secs(second);
        lives.note_alive(7, at(0));
        for second in every_two(0..3_700) {
            lives.note_echo(at(second));
        }
        assert!(lives.processes.is_empty());
    }
}
