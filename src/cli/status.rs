//! `mainstay status`: one page on the controller itself.

use std::process::ExitCode;

use serde_json::Value;

use super::client::{Client, printable};
use super::{Outcome, StatusArguments, StatusOutput, source};

pub(super) fn run(arguments: &StatusArguments) -> Outcome {
    let status = Client::new(&arguments.server)?.get("/status")?;
    match arguments.output {
        StatusOutput::Text => print!("{}", page(&status)),
        StatusOutput::Json => println!("{status:#}"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Pure, so that it can be told and tested.
fn page(status: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or("?".into(), printable);
    let server = &status["server"];
    let leader = &status["leader"];
    let leader = if leader.is_null() {
        "none; what runs on the nodes goes on".into()
    } else {
        let heard = leader["heard-seconds-ago"].as_u64();
        format!(
            "{}, since {}, epoch {}, elected at revision {}{}",
            leader["address"].as_str().map_or("an unknown address".into(), printable),
            text(&leader["since"]),
            leader["epoch"],
            leader["revision"],
            heard.map_or(String::new(), |ago| format!("; last heard {ago} s ago")),
        )
    };
    let store = &status["store"];
    let answers = if store["answers"] == true { "answers" } else { "does not answer" };
    let age = match store["age-seconds"].as_u64() {
        Some(0) | None => "current".into(),
        Some(seconds) => format!("{seconds} s old"),
    };
    let address = server["address"].as_str().map_or("".into(), |address| format!("{}, ", printable(address)));
    let page = format!(
        "server    {address}{}\nleader    {leader}\nstore     {answers}; snapshot of revision {}, {age}\nnodes     {}\nservices  {}\n",
        text(&server["role"]),
        store["revision"],
        counts(&status["nodes"]),
        counts(&status["services"]),
    );
    sources(&status["sources"]).into_iter().fold(page, |page, line| page + &line + "\n")
}

/// A line for each source, and what is wrong with it.
fn sources(sources: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    for source in sources.as_array().into_iter().flatten() {
        let title = if lines.is_empty() { "sources" } else { "" };
        lines.push(format!("{title:<9} {}", source::line(source)));
        lines.extend(source::troubles(source).into_iter().map(|line| format!("{:<9} {line}", "")));
    }
    lines
}

fn counts(counts: &Value) -> String {
    match counts.as_object() {
        None => "unknown: nobody sees the nodes".into(),
        Some(counts) if counts.is_empty() => "none".into(),
        Some(counts) => {
            let each = counts.iter().map(|(name, count)| format!("{count} {}", printable(name)));
            each.collect::<Vec<_>>().join(", ")
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_page_says_who_leads_and_what_nobody_knows() {
        let mut status = json!({
            "server": {"id": "x", "address": "http://b:1", "role": "follows"},
            "leader": {"address": "http://a:1", "epoch": 3, "since": "2026-01-01T00:00:00Z", "revision": 17},
            "store": {"answers": true, "revision": 20, "age-seconds": 0},
            "nodes": {"connected": 2, "timed out": 1},
            "services": {},
            "sources": [{"name": "folder /etc/fleet", "kind": "folder", "reads": 1, "documents": 3,
                "applied": "2026-01-01T00:00:00Z", "problems": [], "waiting": []}],
        });
        assert_eq!(
            page(&status),
            "server    http://b:1, follows\n\
             leader    http://a:1, since 2026-01-01T00:00:00Z, epoch 3, elected at revision 17\n\
             store     answers; snapshot of revision 20, current\n\
             nodes     2 connected, 1 timed out\n\
             services  none\n\
             sources   folder /etc/fleet: 3 documents, applied 2026-01-01T00:00:00Z\n"
        );
        for (part, value) in [("leader", Value::Null), ("nodes", Value::Null)] {
            status[part] = value;
        }
        status["store"] = json!({"answers": false, "revision": 20, "age-seconds": 31});
        let page = page(&status);
        assert!(page.contains("leader    none"), "{page}");
        assert!(page.contains("does not answer; snapshot of revision 20, 31 s old"), "{page}");
        assert!(page.contains("nodes     unknown"), "{page}");
    }
}
