//! What a task concludes from what its node says, and from silence.

use super::mind::{MAX_PROCESSES, RETRY};
use super::*;
use crate::model::kinds::StopSpec;
use crate::plan::step::{Action, Care, Reason, Start};
use crate::plan::world::ArtifactSource;
use crate::reconcile::observed::Warning;

/// The controller's time of day, in seconds since 1970.
const NOON: u64 = 1_767_268_800;

const SECOND: Duration = Duration::from_secs(1);

/// A mind at a time that the test sets.
struct Talk {
    mind: Mind,
    revisions: Revisions,
    now: Instant,
    now_ms: u64,
}

impl Talk {
    /// A conversation that has just begun.
    fn begun() -> Talk {
        let mut talk = Talk {
            mind: Mind::default(),
            revisions: Revisions::default(),
            now: Instant::now(),
            now_ms: 1_000_000,
        };
        talk.mind.begin(1, 1, talk.now);
        talk
    }

    /// A conversation on a node that has told everything: these lines.
    fn opened(lines: &[&str]) -> Talk {
        let mut talk = Talk::begun();
        talk.hear(lines);
        talk.hear(&["O -"]);
        talk
    }

    fn hear(&mut self, lines: &[&str]) {
        for line in lines {
            self.try_hear(line).expect("the node says nothing that ends the conversation");
        }
    }

    fn try_hear(&mut self, line: &str) -> Result<(), LinkError> {
        self.mind.hear(protocol::parse(line), self.moment())
    }

    fn moment(&self) -> Moment {
        Moment { at: self.now, ms: self.now_ms, time_of_day_ms: NOON * 1000 }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.now_ms += u64::try_from(time.as_millis()).expect("a test is short");
    }

    fn tick(&mut self) -> Result<Option<String>, LinkError> {
        self.mind.tick(self.now)
    }

    /// Sends these steps as the next batch.
    fn send(&mut self, steps: &[Step]) -> u64 {
        let revision = self.revisions.next();
        self.mind.sent(revision, steps, self.now);
        revision
    }

    /// Sends these steps, and the node answers with these lines before the trailer.
    fn batch(&mut self, steps: &[Step], answer: &[&str]) {
        let revision = self.send(steps);
        self.hear(answer);
        self.hear(&[&format!("D {revision} done")]);
    }

    fn settle(&mut self, plan: &NodePlan, desired: &NodeDesired) {
        self.mind.settle(plan, desired, self.now_ms);
    }

    fn artifacts(&self) -> Vec<&str> {
        self.mind.sighting.artifacts.iter().map(String::as_str).collect()
    }

    fn seen(&self) -> Vec<&str> {
        self.mind.sighting.processes.keys().map(String::as_str).collect()
    }

    /// The tries of this so far, and what was said; the next one waits as it has to.
    fn attempt(&self, id: &str) -> Option<(u32, Option<&str>)> {
        let attempt = self.mind.attempts.get(id)?;
        assert_eq!(attempt.not_before_ms - self.now_ms, wait_ms(RETRY, id, attempt.tries));
        Some((attempt.tries, attempt.why.as_deref()))
    }
}

fn start(id: &str) -> Step {
    let start = Start {
        command: vec!["/bin/true".into()],
        env: BTreeMap::new(),
        hash: "h".into(),
        live: "-".into(),
        stop: StopSpec::default(),
        care: Care::default(),
    };
    Step { action: Action::Start { id: id.into(), start: start.into() }, reason: Reason::Absent }
}

fn bundle(hash: &str) -> Step {
    let action = Action::Bundle { hash: hash.into(), text: "{}".into() };
    Step { action, reason: Reason::LiveChanged }
}

const A: &str = "P a running 7 70 0 - h - 100 -";
const B: &str = "P b running 8 80 0 - h - 100 -";

#[test]
fn nothing_is_planned_before_the_node_has_told_everything() {
    let mut talk = Talk::begun();
    talk.hear(&[A]);
    assert!(!talk.mind.can_plan());
    talk.hear(&["O -"]);
    assert!(talk.mind.can_plan());
}

#[test]
fn nothing_is_planned_while_a_batch_is_under_way() {
    let mut talk = Talk::opened(&[A]);
    let revision = talk.send(&[start("b")]);
    assert!(!talk.mind.can_plan());
    talk.hear(&[&format!("D {} done", revision + 1)]);
    assert!(!talk.mind.can_plan(), "that was another batch");
    talk.hear(&[&format!("D {revision} done")]);
    assert!(talk.mind.can_plan());
}

#[test]
fn each_batch_has_a_higher_revision_whoever_sends_it() {
    let revisions = Revisions::default();
    let given = [revisions.next(), revisions.next(), revisions.next()];
    assert_eq!(given, [1, 2, 3]);
}

#[test]
fn a_quiet_node_is_asked_for_everything_after_a_while_and_not_before() {
    let mut talk = Talk::opened(&[A]);
    assert_eq!(talk.mind.next_deadline(talk.now), talk.now + LOOK_EVERY);
    talk.pass(LOOK_EVERY - SECOND);
    assert!(matches!(talk.tick(), Ok(None)));
    talk.pass(SECOND);
    assert_eq!(talk.tick().expect("the link is fine").as_deref(), Some("LOOK 1\n"));
    assert!(matches!(talk.tick(), Ok(None)), "one question at a time");
    talk.hear(&[A, "K 1 -"]);
    assert_eq!(talk.mind.next_deadline(talk.now), talk.now + LOOK_EVERY);
    talk.pass(LOOK_EVERY);
    assert_eq!(talk.tick().expect("the link is fine").as_deref(), Some("LOOK 2\n"));
}

#[test]
fn a_node_that_does_not_answer_is_given_up() {
    let unanswered: [fn() -> Talk; 3] = [
        Talk::begun,
        || {
            let mut talk = Talk::opened(&[]);
            talk.send(&[start("a")]);
            talk
        },
        || {
            let mut talk = Talk::opened(&[]);
            talk.pass(LOOK_EVERY);
            talk.tick().expect("the link is fine").expect("it is time to look");
            talk
        },
    ];
    for make in unanswered {
        let mut talk = make();
        talk.pass(ANSWER_WITHIN - SECOND);
        assert!(matches!(talk.tick(), Ok(None)));
        talk.pass(SECOND);
        assert!(matches!(talk.tick(), Err(LinkError::TimedOut(_))));
    }
}

#[test]
fn a_look_that_was_answered_is_no_answer_to_a_batch() {
    let mut talk = Talk::opened(&[]);
    talk.pass(LOOK_EVERY);
    talk.tick().expect("the link is fine").expect("it is time to look");
    talk.send(&[start("a")]);
    talk.hear(&["K 1 -"]);
    talk.pass(ANSWER_WITHIN);
    assert!(matches!(talk.tick(), Err(LinkError::TimedOut(_))));
}

#[test]
fn while_an_answer_is_awaited_a_look_that_is_due_wakes_nobody() {
    let mut talk = Talk::opened(&[]);
    talk.pass(LOOK_EVERY - SECOND);
    talk.send(&[start("a")]);
    talk.pass(2 * SECOND);
    assert!(talk.mind.next_deadline(talk.now) > talk.now, "there is nothing to do before the answer");
    assert_eq!(talk.tick(), Ok(None));
}

#[test]
fn what_was_not_told_on_a_look_is_gone() {
    let mut talk = Talk::opened(&[A, B]);
    assert_eq!(talk.seen(), ["a", "b"]);
    talk.pass(LOOK_EVERY);
    talk.tick().expect("the link is fine").expect("it is time to look");
    talk.hear(&[B]);
    assert_eq!(talk.seen(), ["a", "b"], "not everything was told yet");
    talk.hear(&["K 1 -"]);
    assert_eq!(talk.seen(), ["b"]);
}

#[test]
fn the_answer_to_another_question_makes_nothing_gone() {
    let mut talk = Talk::opened(&[A]);
    talk.pass(LOOK_EVERY);
    talk.tick().expect("the link is fine").expect("it is time to look");
    talk.hear(&["K 0 -"]);
    assert_eq!(talk.seen(), ["a"]);
}

#[test]
fn what_changes_between_looks_makes_nothing_gone() {
    let mut talk = Talk::opened(&[A]);
    talk.hear(&[B]);
    assert_eq!(talk.seen(), ["a", "b"]);
    talk.hear(&["G a"]);
    assert_eq!(talk.seen(), ["b"]);
}

#[test]
fn a_new_conversation_keeps_what_was_seen_and_concludes_nothing_from_it() {
    let mut talk = Talk::opened(&[A, B]);
    talk.send(&[start("c")]);
    talk.mind.begin(1, 1, talk.now);
    assert_eq!(talk.seen(), ["a", "b"]);
    assert!(!talk.mind.sighting.complete && !talk.mind.can_plan());
    talk.hear(&[B]);
    assert_eq!(talk.seen(), ["a", "b"]);
    talk.hear(&["O -"]);
    assert_eq!(talk.seen(), ["b"]);
    assert!(talk.mind.can_plan(), "the old batch is not waited for");
}

#[test]
fn a_failed_step_is_tried_again_after_a_growing_wait_and_says_why() {
    let mut talk = Talk::opened(&[]);
    for tries in 1..9 {
        talk.batch(&[start("a"), start("b")], &["E a can't write /x"]);
        assert_eq!(talk.attempt("a"), Some((tries, Some("can't write /x"))));
        assert_eq!(talk.attempt("b"), Some((tries, None)));
        talk.pass(Duration::from_millis(RETRY.longest_ms));
    }
}

#[test]
fn a_step_that_helped_is_forgotten() {
    let mut talk = Talk::opened(&[]);
    talk.batch(&[start("a")], &["E a no"]);
    talk.batch(&[start("a")], &[A]);
    let plan = NodePlan { converged: vec!["a".into()], ..NodePlan::default() };
    talk.settle(&plan, &NodeDesired::default());
    assert_eq!(talk.attempt("a"), None);
    talk.batch(&[start("a")], &["E a no"]);
    assert_eq!(talk.attempt("a"), Some((1, Some("no"))), "the wait starts over");
}

#[test]
fn a_step_to_another_end_does_not_wait_for_the_last_one() {
    let mut talk = Talk::opened(&[]);
    for _ in 0..3 {
        talk.batch(&[bundle("one")], &["E one no"]);
    }
    assert_eq!(talk.attempt(BUNDLE), Some((3, Some("no"))));
    talk.batch(&[bundle("two")], &["E two no"]);
    assert_eq!(talk.attempt(BUNDLE), Some((1, Some("no"))));
}

#[test]
fn a_step_for_what_is_neither_wanted_nor_there_is_forgotten() {
    let mut talk = Talk::opened(&[A]);
    talk.batch(&[start("a"), start("b")], &[]);
    talk.settle(&NodePlan::default(), &NodeDesired::default());
    assert!(talk.attempt("a").is_some(), "it is seen");
    assert!(talk.attempt("b").is_none());
}

#[test]
fn what_fails_is_waited_for_by_the_next_controller_as_by_this_one() {
    let mut talk = Talk::opened(&[]);
    for _ in 0..4 {
        talk.batch(&[start("a"), start("b"), bundle("one")], &["E a no\u{7}"]);
    }
    talk.batch(&[start("c")], &[]);
    let failing = talk.mind.failing();
    let ids: Vec<&str> = failing.keys().map(String::as_str).collect();
    assert_eq!(ids, [BUNDLE, "a", "b"], "what was tried once may have helped");
    assert_eq!(failing["a"].tried.why.as_deref(), Some("no"));

    // Another one, a second later by the time of day, with a clock of its own.
    let mut next = Talk::begun();
    next.now_ms = 77;
    let later = Moment { time_of_day_ms: NOON * 1000 + 1_000, ..next.moment() };
    next.mind.take_over(failing.clone(), later);
    assert_eq!(next.mind.failing(), failing, "nothing of it has changed");
    let attempt = &next.mind.attempts["a"];
    assert_eq!((attempt.tries, attempt.not_before_ms), (4, 77 + wait_ms(RETRY, "a", 4) - 1_000));
    next.hear(&["O -"]);
    next.batch(&[start("a")], &["E a no"]);
    assert_eq!(next.attempt("a"), Some((5, Some("no"))), "the wait goes on growing");
}

#[test]
fn the_failures_of_one_node_that_are_kept_fit_into_one_value_of_the_store() {
    let mut talk = Talk::opened(&[]);
    let why = "\u{10ffff}\"".repeat(5_000);
    for number in 0..MAX_PROCESSES {
        let id = format!("{number:063}");
        talk.mind.tried(id, Aim::Running("0".repeat(64)), Some(why.clone()), talk.moment());
    }
    let steps = talk.mind.failing();
    let tries = NodeTries { uid: "0".repeat(36), login: None, steps };
    assert!(serde_json::to_vec(&tries).expect("it is JSON").len() < crate::store::MAX_VALUE_BYTES);
}

#[test]
fn a_batch_that_found_the_node_locked_is_tried_again_and_says_so() {
    let mut talk = Talk::opened(&[]);
    let revision = talk.send(&[start("a")]);
    talk.hear(&[&format!("D {revision} locked")]);
    assert_eq!(talk.attempt("a"), Some((1, Some("another batch holds the node's lock"))));
}

#[test]
fn a_newer_controller_ends_the_conversation() {
    let mut talk = Talk::opened(&[]);
    assert!(matches!(talk.try_hear("X fenced 9"), Err(LinkError::Fenced(9))));
    let revision = talk.send(&[start("a")]);
    let fenced = talk.try_hear(&format!("D {revision} fenced 9 3"));
    assert!(matches!(fenced, Err(LinkError::Fenced(9))));
    assert!(talk.attempt("a").is_none(), "nothing was tried");
}

#[test]
fn a_node_that_can_not_be_used_ends_the_conversation_and_says_why() {
    let mut talk = Talk::begun();
    let refused = talk.try_hear("X unusable flock is missing");
    assert!(matches!(refused, Err(LinkError::ShellUnusable(why)) if why == "flock is missing"));
}

#[test]
fn the_same_state_told_twice_is_no_news() {
    let mut talk = Talk::opened(&[A]);
    let before = talk.mind.sighting.clone();
    talk.pass(Duration::from_millis(300));
    // 30 hundredths of a second later, and a rounding off.
    talk.hear(&["P a running 7 70 0 - h - 131 -"]);
    assert_eq!(talk.mind.sighting, before);
    talk.hear(&["P a running 9 90 1 0 h - 0 -"]);
    assert_ne!(talk.mind.sighting, before);
}

#[test]
fn the_same_state_since_another_time_is_news() {
    let mut talk = Talk::opened(&[A]);
    talk.pass(SECOND);
    talk.hear(&["P a running 7 70 0 - h - 0 -"]);
    assert_eq!(talk.mind.sighting.processes["a"].since_ms, talk.now_ms);
}

#[test]
fn a_failed_bundle_is_no_failed_process_whatever_that_is_called() {
    let mut talk = Talk::opened(&[]);
    let steps = [bundle("0123456789abcdef"), start("bundle")];
    talk.batch(&steps, &["E 0123456789abcdef can't write /x/bundle.json"]);
    assert_eq!(talk.attempt(BUNDLE), Some((1, Some("can't write /x/bundle.json"))));
    assert_eq!(talk.attempt("bundle"), Some((1, None)));
    talk.batch(&steps, &["E bundle no"]);
    assert_eq!(talk.attempt(BUNDLE), Some((2, None)));
    assert_eq!(talk.attempt("bundle"), Some((2, Some("no"))));
}

#[test]
fn the_bundle_s_attempt_is_forgotten_once_that_bundle_is_there() {
    let mut talk = Talk::opened(&[]);
    let desired = NodeDesired { bundle: Some(("new".into(), "{}".into())), ..NodeDesired::default() };
    talk.batch(&[bundle("new")], &["E new no"]);
    talk.hear(&["B old"]);
    talk.settle(&NodePlan::default(), &desired);
    assert!(talk.attempt(BUNDLE).is_some());
    talk.hear(&["B new"]);
    talk.settle(&NodePlan::default(), &desired);
    assert!(talk.attempt(BUNDLE).is_none());
}

#[test]
fn what_a_node_says_out_of_turn_changes_nothing() {
    let mut talk = Talk::opened(&[A]);
    let before = talk.mind.sighting.clone();
    talk.hear(&["E a no", "D 7 done", "D 7 locked", "K 9 -", "rubbish", "", "MAINSTAY nonce 1 boot"]);
    assert_eq!(talk.mind.sighting, before);
    assert!(talk.mind.attempts.is_empty() && talk.mind.can_plan());
}

#[test]
fn a_wait_for_a_new_connection_grows_is_bounded_and_is_longer_where_it_may_lock_an_account() {
    let lost = LinkError::Lost("no".into());
    let refused = LinkError::AuthFailed("no".into());
    let mut last = Duration::ZERO;
    for failures in 1..40 {
        let wait = reconnect_wait(&lost, failures, "ND1");
        assert!(wait <= Duration::from_millis(RECONNECT.longest_ms));
        assert!(failures > 7 || wait > last, "{failures}: {wait:?} after {last:?}");
        assert!(reconnect_wait(&refused, failures, "ND1") > wait);
        last = wait;
    }
}

/// Two artifacts' addresses.
fn addresses() -> [String; 2] {
    ["0a", "0b"].map(|pair| pair.repeat(32))
}

#[test]
fn an_artifact_is_there_as_long_as_it_is_told_of() {
    let [a, b] = addresses();
    let [a_is_here, b_is_here] = [&a, &b].map(|address| format!("A {address} here"));
    let mut talk = Talk::opened(&["R /node", &a_is_here]);
    assert_eq!(talk.mind.sighting.root.as_deref(), Some("/node"));
    assert_eq!(talk.artifacts(), [a.as_str()]);
    talk.hear(&[&b_is_here, &format!("A {a} gone")]);
    assert_eq!(talk.artifacts(), [b.as_str()]);
    talk.pass(LOOK_EVERY);
    talk.tick().expect("the link is fine").expect("it is time to look");
    talk.hear(&[&a_is_here, "K 1 -"]);
    assert_eq!(talk.artifacts(), [a.as_str()], "what a look does not tell of is gone");
}

#[test]
fn a_transfer_that_failed_is_tried_again_after_a_growing_wait_and_says_why() {
    let [address, _] = addresses();
    let mut talk = Talk::opened(&[]);
    let source = ArtifactSource { path: "/srv/web.jar".into(), size: 1 };
    let desired = NodeDesired { artifacts: [(address.clone(), source)].into(), ..NodeDesired::default() };
    for tries in 1..4 {
        let why = Some("disk full".to_owned());
        talk.mind.tried(address.clone(), Aim::Delivered, why, talk.moment());
        talk.settle(&NodePlan::default(), &desired);
        assert_eq!(talk.attempt(&address), Some((tries, Some("disk full"))));
    }
    talk.hear(&[&format!("A {address} here")]);
    talk.settle(&NodePlan::default(), &desired);
    assert_eq!(talk.attempt(&address), None, "it is there");
}

#[test]
fn an_artifact_is_unused_since_it_was_first_found_unused() {
    let [a, b] = addresses();
    let mut talk = Talk::opened(&[]);
    let unused = |addresses: &[&String]| NodePlan {
        unused: addresses.iter().map(|address| (*address).clone()).collect(),
        ..NodePlan::default()
    };
    let began = talk.now_ms;
    talk.settle(&unused(&[&a]), &NodeDesired::default());
    talk.pass(SECOND);
    talk.settle(&unused(&[&a, &b]), &NodeDesired::default());
    assert_eq!(talk.mind.stock.unused_since_ms, [(a.clone(), began), (b.clone(), began + 1_000)].into());
    talk.settle(&unused(&[&b]), &NodeDesired::default());
    talk.pass(SECOND);
    talk.settle(&unused(&[&a, &b]), &NodeDesired::default());
    assert_eq!(talk.mind.stock.unused_since_ms[&a], began + 2_000, "it was used meanwhile");
}

#[test]
fn a_clock_that_is_off_is_warned_of_and_no_more_once_it_is_right() {
    let mut talk = Talk::begun();
    talk.hear(&[&format!("O {}", NOON + 61)]);
    assert_eq!(talk.mind.warnings(), [Warning::ClockOff { ahead_s: 61 }]);
    for (clock, ahead_s) in
        [(NOON - 3600, Some(-3600)), (NOON + 60, None), (NOON - 61, Some(-61)), (NOON, None)]
    {
        talk.pass(LOOK_EVERY);
        talk.tick().expect("the link is fine").expect("it is time to look");
        let token = talk.mind.looks;
        talk.hear(&[&format!("K {token} {clock}")]);
        let warnings: Vec<Warning> =
            ahead_s.into_iter().map(|ahead_s| Warning::ClockOff { ahead_s }).collect();
        assert_eq!(talk.mind.warnings(), warnings, "{clock}");
    }
}

#[test]
fn a_clock_that_nobody_can_tell_is_not_warned_of() {
    assert_eq!(Talk::opened(&[]).mind.warnings(), []);
    let mut talk = Talk::begun();
    talk.hear(&["O 0"]);
    assert_eq!(talk.mind.warnings().len(), 1);
    talk.mind.begin(1, 1, talk.now);
    assert_eq!(talk.mind.warnings(), [], "that was the last conversation");
    talk.hear(&[&format!("O {}", u64::MAX)]);
    assert_eq!(talk.mind.warnings().len(), 1, "whatever it says, it is a number");
}

#[test]
fn a_clock_that_is_a_little_further_off_is_no_news() {
    let mut talk = Talk::begun();
    for (clock, shown) in [(100, 100), (103, 100), (105, 100), (106, 106), (101, 106), (100, 100)] {
        talk.hear(&[&format!("O {}", NOON + clock)]);
        assert_eq!(talk.mind.warnings(), [Warning::ClockOff { ahead_s: shown }]);
    }
}

impl Talk {
    /// What was told since it was last asked.
    fn told(&mut self) -> Vec<(String, &'static str, &'static str, String)> {
        let told = std::mem::take(&mut self.mind.told);
        told.into_iter().map(|Told { id, action, reason, outcome }| (id, action, reason, outcome)).collect()
    }
}

#[test]
fn every_step_is_told_of_with_its_end() {
    let mut talk = Talk::opened(&[]);
    let told = |id: &str, action, reason, outcome: &str| (id.to_owned(), action, reason, outcome.to_owned());
    talk.batch(&[bundle("b1"), start("a"), start("b")], &["E a disk full: no room"]);
    assert_eq!(
        talk.told(),
        [
            told("", "Bundle", "LiveChanged", "done"),
            told("a", "Start", "Absent", "failed: disk full: no room"),
            told("b", "Start", "Absent", "done"),
        ]
    );
    let revision = talk.send(&[start("a")]);
    talk.hear(&[&format!("D {revision} locked")]);
    assert_eq!(talk.told(), [told("a", "Start", "Absent", "failed: another batch holds the node's lock")]);

    let revision = talk.send(&[start("a")]);
    assert!(talk.try_hear(&format!("D {revision} fenced 9 3")).is_err());
    talk.mind.lost();
    let fenced = "failed: fenced: a newer controller (epoch 9) has taken this node over";
    assert_eq!(talk.told(), [told("a", "Start", "Absent", fenced)], "and once only");

    talk.send(&[start("a")]);
    talk.mind.lost();
    talk.mind.begin(1, 1, talk.now);
    let lost = "not known: the link ended before the node answered";
    assert_eq!(talk.told(), [told("a", "Start", "Absent", lost)]);
}

#[test]
fn a_full_disk_ends_the_conversation_by_its_name() {
    let full = Talk::begun().try_hear("X full there is no room for /x");
    assert!(matches!(full, Err(LinkError::DiskFull(why)) if why == "there is no room for /x"));
}

mod leases;
