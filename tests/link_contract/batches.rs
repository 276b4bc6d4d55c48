//! What a batch does, and that it does it whole, in its turn and for who leads.

use mainstay::model::kinds::Signal;
use mainstay::node::protocol::{self, Line, Verdict};
use mainstay::plan::step::{Action, Reason, Step};
use mainstay::plan::world::Phase;

use super::{Case, command, remove, sh, start, stop};

pub(super) async fn half_a_batch_does_nothing(mut case: Case) {
    let steps = [Step { action: start("a", command(&["sleep", "1000"])), reason: Reason::Absent }];
    let text = protocol::batch(1, 9, &steps);
    for cut in [text.len() - 1, text.len() - 3, text.len() / 2, 12] {
        case.link.send(&text[..cut]).await.unwrap();
        case.reconnect().await;
        assert!(!case.processes.contains_key("a"), "cut at {cut}");
    }
    case.end().await;
}

pub(super) async fn a_deposed_controller_is_refused(mut case: Case) {
    case.batch_as(5, 3, vec![start("a", command(&["sleep", "1000"]))]).await;
    let fenced = Verdict::Fenced { epoch: 5, revision: 3 };
    assert_eq!(case.batch_as(4, 9, vec![stop("a", 0)]).await, fenced);
    assert_eq!(case.batch_as(5, 2, vec![stop("a", 0)]).await, fenced);
    case.look().await;
    assert_eq!(case.processes["a"].phase, Phase::Running);
    case.link.send(&protocol::open(&case.target.root.clone(), 4, 9)).await.unwrap();
    case.until("the refusal", |line, _| *line == Line::Fenced(5)).await;
    assert_eq!(case.batch_as(5, 4, vec![remove("a")]).await, Verdict::Done);
    case.until_or_now("gone", |all| all.is_empty()).await;
    case.link.close().await;
}

pub(super) async fn a_batch_of_an_older_conversation_is_refused(mut case: Case) {
    let mut other = case.connector.connect(&case.target).await.unwrap();
    other.send(&protocol::open(&case.target.root, 1, 5)).await.unwrap();
    while !matches!(other.next().await.unwrap(), Line::Opened { .. }) {}
    let late = vec![start("a", command(&["sleep", "1000"]))];
    assert_eq!(case.batch_as(1, 4, late).await, Verdict::Fenced { epoch: 1, revision: 5 });
    other.close().await;
    case.revision = 5;
    case.look().await;
    assert!(case.processes.is_empty());
    case.end().await;
}

pub(super) async fn what_is_restarted_in_a_long_batch_is_told_as_running(mut case: Case) {
    case.batch(vec![start("a", command(&["sleep", "1000"]))]).await;
    case.phase("a", Phase::Running).await;
    for round in 0..5 {
        let mut again = command(&["sleep", "1000"]);
        again.hash = format!("again{round}");
        // It runs again while the others are still being started.
        let mut actions = vec![Action::Restart { id: "a".into(), start: again.clone().into() }];
        actions
            .extend((0..10).map(|number| start(&format!("{round}-{number}"), command(&["sleep", "1000"]))));
        case.batch(actions).await;
        case.until_or_now("the restarted one to run", |all| {
            all["a"].phase == Phase::Running && all["a"].hash == again.hash
        })
        .await;
        case.until_or_now("all to run", |all| {
            all.len() == 1 + 10 * (round + 1) && all.values().all(|seen| seen.phase == Phase::Running)
        })
        .await;
    }
    case.end().await;
}

pub(super) async fn a_change_right_after_its_process_was_told_of_at_the_end_of_a_batch_is_told(
    mut case: Case,
) {
    case.batch(vec![start("a", command(&["sleep", "1000"]))]).await;
    case.phase("a", Phase::Running).await;
    // What a batch writes, cut in two where the change comes in between.
    let events = case.root.join("events");
    let written = std::fs::read_to_string(&events).unwrap();
    let link = written.lines().find_map(|line| line.strip_prefix("?begin ")).unwrap().to_owned();
    let ring = |text: &str| {
        let mut file = std::fs::OpenOptions::new().append(true).open(&events).unwrap();
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    };
    let is_done = |line: &Line| matches!(line, Line::Done { .. });
    case.processes.clear();
    ring(&format!("?begin {link}\na\n?say {link} a\n"));
    case.phase("a", Phase::Running).await;
    let record = case.root.join("p/a/rec");
    let mut words: Vec<String> =
        std::fs::read_to_string(&record).unwrap().split(' ').map(str::to_owned).collect();
    words[7] = "7".into();
    std::fs::write(&record, words.join(" ")).unwrap();
    ring(&format!("a\n?done {link} 999\n"));
    case.until("the end of the batch", |line, _| is_done(line)).await;
    case.until_or_now("the change", |all| all["a"].restarts == 7).await;
    case.end().await;
}

pub(super) async fn a_bundle_is_written_whole_and_told_of(mut case: Case) {
    let text = "{\"a\": \"it's\\n\"}\n";
    case.batch(vec![
        Action::Bundle { hash: "b1".into(), text: text.into() },
        start("a", sh("trap 'cat \"$MAINSTAY_BUNDLE\"' HUP; echo up; while :; do sleep 0.1; done")),
    ])
    .await;
    case.phase("a", Phase::Running).await;
    case.wait_for_log("a", "up\n");
    case.batch(vec![Action::Reload { id: "a".into(), signal: Signal::Hup, live: "l2".into() }]).await;
    case.wait_for_log("a", &format!("up\n{text}"));
    case.look().await;
    assert_eq!(case.processes["a"].live, "l2");
    case.end().await;
}
