//! Foresight as people read it.

use std::fmt::Write as _;

use super::foresight::{Deed, Foresight, NodeForesight, ProcessForesight, Total};

/// A line for each thing that is done or held, and the total. Empty when there is nothing to tell: neither does the change do anything, nor is
/// anything under way.
pub fn text(foresight: &Foresight) -> String {
    let mut text = String::new();
    for node in &foresight.nodes {
        around(&mut text, node);
        for process in &node.processes {
            for deed in &process.deeds {
                line(&mut text, node, process, deed);
            }
            for hold in &process.holds {
                let what = about(node, process);
                let _ = writeln!(text, "! hold    {what} : {}", hold.why);
            }
        }
    }
    for hold in &foresight.holds {
        let _ = writeln!(text, "! hold    {} : {}", hold.object, hold.why);
    }
    if !text.is_empty() {
        let _ = writeln!(text, "{}", total(&foresight.total));
    }
    if foresight.pending != Total::default() {
        let _ = writeln!(text, "Under way already, whatever is applied:");
        for node in &foresight.nodes {
            for process in &node.processes {
                for deed in &process.pending {
                    line(&mut text, node, process, deed);
                }
            }
        }
        let _ = writeln!(text, "{}", total(&foresight.pending));
    }
    if !foresight.complete && !text.is_empty() {
        let _ = writeln!(text, "This is only the beginning: it takes more rounds than are foreseen.");
    }
    text
}

/// The line that counts.
pub(super) fn total(total: &Total) -> String {
    let Total { start, stop, restart, reload, nodes } = total;
    let noun = if *nodes == 1 { "node" } else { "nodes" };
    format!("{start} to start, {stop} to stop, {restart} to restart, {reload} to reload on {nodes} {noun}")
}

/// What is done on a node beside its processes. That its services' configuration is written anew is told only where nothing else tells it.
fn around(text: &mut String, node: &NodeForesight) {
    let NodeForesight { instance, node: name, .. } = node;
    if node.presumed {
        let _ = writeln!(text, "  {instance}/{name} is new: it is taken to answer, and to be empty");
    }
    for sent in &node.artifacts {
        let _ = writeln!(text, "> send    {instance}/{name} {} ({} bytes)", sent.path, sent.size);
    }
    if node.bundle && node.processes.iter().all(|process| process.deeds.is_empty()) {
        let _ = writeln!(text, "> write   {instance}/{name} : what its services are told changed");
    }
}

fn about(node: &NodeForesight, process: &ProcessForesight) -> String {
    let service = if process.service.is_empty() { "-" } else { &process.service };
    format!("{}/{} {service} ({})", node.instance, node.node, process.id)
}

fn line(text: &mut String, node: &NodeForesight, process: &ProcessForesight, deed: &Deed) {
    let (sign, verb) = (deed.verb.sign(), deed.verb.name());
    let _ = writeln!(text, "{sign} {verb:<7} {} : {}", about(node, process), deed.why);
}
