//! Side channels: bytes beside the conversation, which hold up none of it.

use std::time::Duration;

use mainstay::node::side::Side;
use mainstay::plan::world::Phase;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Case, PATIENCE, command, start};

/// Opens a side channel that sends back what comes.
pub(super) async fn echo(case: &mut Case) -> Side {
    case.link.sides().open(&["echo"]).await.unwrap()
}

/// Gives a channel bytes until it takes no more, though nobody reads: what is between here and there is full then.
async fn fill(side: &mut Side) -> usize {
    let chunk = [b'x'; 16 * 1024];
    let mut taken = 0;
    let writer = side.writer.as_mut().unwrap();
    while let Ok(written) = tokio::time::timeout(Duration::from_secs(1), writer.write(&chunk)).await {
        taken += written.unwrap();
    }
    taken
}

pub(super) async fn a_side_channel_carries_bytes_both_ways_as_they_are(mut case: Case) {
    let sent: Vec<u8> = (0..3_000_017_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut side = echo(&mut case).await;
    let (reader, mut writer) = (&mut side.reader, side.writer.take().unwrap());
    let mut heard = Vec::new();
    let send = async {
        writer.write_all(&sent).await.unwrap();
        // The end of the node's input, which is the end of what it has to say.
        drop(writer);
    };
    let hear =
        async { tokio::time::timeout(PATIENCE, reader.read_to_end(&mut heard)).await.unwrap().unwrap() };
    tokio::join!(send, hear);
    assert!(heard == sent, "{} bytes came back of {}", heard.len(), sent.len());
    case.end().await;
}

pub(super) async fn a_side_channel_that_is_stuck_delays_no_step(mut case: Case) {
    let mut side = echo(&mut case).await;
    let taken = fill(&mut side).await;
    assert!(taken < 64 * 1024 * 1024, "nothing holds back who sends: {taken} bytes were taken");
    case.batch(vec![start("a", command(&["sleep", "1000"]))]).await;
    case.phase("a", Phase::Running).await;
    let mut other = echo(&mut case).await;
    other.writer.as_mut().unwrap().write_all(b"beside it\n").await.unwrap();
    assert_eq!(other.line().await.unwrap(), "beside it");
    case.end().await;
}

pub(super) async fn a_side_channel_ends_with_its_link(mut case: Case) {
    let mut side = echo(&mut case).await;
    let sides = case.link.sides();
    case.reconnect().await;
    if case.target.port.is_some() {
        assert!(tokio::time::timeout(PATIENCE, side.line()).await.unwrap().is_err());
        assert_eq!(sides.open(&["echo"]).await.unwrap_err().name(), "connection lost");
    }
    case.end().await;
}

pub(super) async fn a_word_that_the_node_does_not_know_is_said_to_be_none(case: Case) {
    let nasty = "a'b $(reboot) `reboot` ; & | * ? ~ # \\";
    let mut side = case.link.sides().open(&[nasty]).await.unwrap();
    assert_eq!(side.line().await.unwrap(), format!("X {nasty} is no word of this script"));
    assert!(side.line().await.is_err(), "the node ends it");
    case.end().await;
}
