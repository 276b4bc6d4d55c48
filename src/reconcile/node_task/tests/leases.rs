//! When the leases on a node are renewed, and by which word of the node.

use super::*;

const GUARDED: &str = "P a running 7 70 0 - h.c.20 - 100 -";

/// A conversation on a node that runs something under a lease of 20 s and has been up for 5 s, planned on.
fn guarded(lines: &[&str]) -> Talk {
    let mut talk = Talk::begun();
    talk.hear(lines);
    talk.hear(&["L 500", "O -"]);
    talk.settle(&NodePlan::default(), &NodeDesired::default());
    talk
}

fn said(talk: &mut Talk) -> Option<String> {
    talk.tick().expect("the link is fine")
}

fn start_under(id: &str, seconds: u32) -> Step {
    let Step { action: Action::Start { id, mut start }, reason } = start(id) else {
        unreachable!("it is a start")
    };
    Arc::make_mut(&mut start).care.lease = Some(seconds);
    Step { action: Action::Start { id, start }, reason }
}

#[test]
fn leases_are_renewed_by_what_the_node_said_last_four_times_while_one_lasts() {
    let mut talk = guarded(&[GUARDED]);
    assert_eq!(said(&mut talk).as_deref(), Some("LEASE 1 1 500\n"));
    assert_eq!(said(&mut talk), None, "the last was not answered yet");
    talk.hear(&["L 510"]);
    assert_eq!(talk.mind.next_deadline(talk.now), talk.now + 5 * SECOND);
    talk.pass(4 * SECOND);
    assert_eq!(said(&mut talk), None);
    talk.pass(SECOND);
    assert_eq!(said(&mut talk).as_deref(), Some("LEASE 1 1 510\n"));
}

#[test]
fn the_shortest_lease_says_how_often() {
    let mut talk = guarded(&[GUARDED, "P b running 7 70 0 - h.c.8 - 100 -"]);
    said(&mut talk).expect("it is time");
    talk.hear(&["L 510"]);
    assert_eq!(talk.mind.next_deadline(talk.now), talk.now + 2 * SECOND);
}

#[test]
fn nothing_is_renewed_where_nothing_runs_under_a_lease() {
    for lines in
        [&[A][..], &[], &["P a stopped - - 0 0 h.c.20 - 100 -"], &["P a lost - - 0 0 h.c.20 - 100 -"]]
    {
        let mut talk = guarded(lines);
        assert_eq!(said(&mut talk), None);
        assert_eq!(talk.mind.next_deadline(talk.now), talk.now + LOOK_EVERY);
    }
}

#[test]
fn a_node_that_does_not_answer_a_renewal_for_a_whole_lease_is_given_up() {
    let mut talk = guarded(&[GUARDED]);
    said(&mut talk).expect("it is time");
    talk.pass(20 * SECOND - SECOND);
    // A look goes out, but is no renewal.
    talk.tick().expect("there is time left");
    talk.pass(SECOND);
    assert!(matches!(talk.tick(), Err(LinkError::TimedOut(_))));
}

#[test]
fn nothing_is_renewed_while_a_batch_is_under_way_and_then_by_its_revision() {
    let mut talk = guarded(&[GUARDED]);
    talk.revisions.next();
    let revision = talk.send(&[start("b")]);
    assert_eq!(said(&mut talk), None);
    assert_eq!(talk.mind.next_deadline(talk.now), talk.now + LOOK_EVERY, "nobody waits for it in vain");
    talk.hear(&[&format!("D {revision} done")]);
    assert_eq!(said(&mut talk), Some(format!("LEASE 1 {revision} 500\n")));
}

#[test]
fn what_is_started_under_a_lease_waits_for_a_word_of_the_node_that_is_fresh() {
    let mut talk = guarded(&[]);
    let steps = [start("a"), start_under("b", 20)];
    talk.pass(6 * SECOND);
    assert_eq!(talk.mind.ready(&steps, talk.now), (Some("LEASE 1 1 500\n".into()), false));
    assert_eq!(talk.mind.ready(&steps, talk.now), (None, false), "that is on its way");
    talk.hear(&["L 1100"]);
    assert_eq!(talk.mind.ready(&steps, talk.now), (Some("LEASE 1 1 1100\n".into()), true));
    assert_eq!(talk.mind.ready(&steps, talk.now), (None, true), "that goes before them");
    talk.pass(60 * SECOND);
    assert_eq!(talk.mind.ready(&[start("a")], talk.now), (None, true), "it has no lease");
}

#[test]
fn another_conversation_renews_nothing_before_the_node_has_told_everything() {
    let mut talk = guarded(&[GUARDED]);
    said(&mut talk).expect("it is time");
    talk.mind.unseen(talk.now_ms);
    talk.mind.begin(1, 2, talk.now);
    talk.hear(&["L 900", GUARDED]);
    assert_eq!(said(&mut talk), None);
    talk.hear(&["O -"]);
    talk.settle(&NodePlan::default(), &NodeDesired::default());
    assert_eq!(said(&mut talk).as_deref(), Some("LEASE 1 2 900\n"));
}
