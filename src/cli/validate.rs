//! `mainstay validate`: whether documents are fine, without a server.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::{Outcome, StatusOutput, caret};
use crate::model::Problem;
use crate::model::secret::{KEY_BYTES, Sealer};
use crate::source::check::{Checked, Extent, Text, check, read, texts};

#[derive(Debug, Args)]
pub(super) struct ValidateArguments {
    /// Check each document by itself only: what it names may be elsewhere.
    #[arg(long)]
    alone: bool,
    /// How it is told.
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: StatusOutput,
    /// Folders of manifests, files, or - for what comes on stdin. Together they are one set.
    #[arg(value_name = "DIR|FILE|-", required = true)]
    inputs: Vec<PathBuf>,
}

pub(super) fn run(arguments: &ValidateArguments) -> Outcome {
    let (texts, mut problems) = gather(&arguments.inputs);
    let extent = if arguments.alone { Extent::Each } else { Extent::Whole };
    // Nothing of it is kept, so the key does not matter.
    let Checked { set, problems: found } = check(&texts, extent, &Sealer::new([0; KEY_BYTES]));
    problems.extend(found);
    if set.is_empty() && problems.is_empty() {
        problems.extend(texts.first().map(|text| about(&text.name, "holds no documents".into())));
    }
    let is_fine = problems.is_empty();
    match arguments.output {
        StatusOutput::Text => print!("{}", told(&texts, set.len(), &problems)),
        StatusOutput::Json => println!("{:#}", value(&texts, set.len(), &problems)),
    }
    Ok(if is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Everything that is to be checked, each text once, and what can't be had.
pub(super) fn gather(inputs: &[PathBuf]) -> (Vec<Text>, Vec<Problem>) {
    let mut found = Vec::new();
    let mut problems = Vec::new();
    let mut known = BTreeSet::new();
    for input in inputs {
        let more = if input == Path::new("-") {
            Ok(vec![Text { name: "stdin".into(), path: None, text: read(std::io::stdin().lock()) }])
        } else {
            texts(input)
        };
        match more {
            Ok(more) => found.extend(more.into_iter().filter(|text| known.insert(text.path.clone()))),
            Err(problem) => problems.push(problem),
        }
    }
    (found, problems)
}

fn about(file: &str, message: String) -> Problem {
    Problem { file: Some(file.to_owned()), at: None, path: String::new(), message }
}

/// What people read: each problem with its line, where that can be shown, and a last line that says how much there was.
fn told(texts: &[Text], documents: usize, problems: &[Problem]) -> String {
    let by_name: BTreeMap<&str, &str> =
        texts.iter().filter_map(|text| Some((text.name.as_str(), text.text.as_deref().ok()?))).collect();
    let mut told = String::new();
    for problem in problems {
        told.push_str(&format!("{problem}\n"));
        let text = problem.file.as_deref().and_then(|file| by_name.get(file));
        if let (Some(text), Some(at)) = (text, problem.at) {
            told.push_str(&caret::line(text, at).unwrap_or_default());
        }
    }
    let files = counted(texts.len(), "file");
    told.push_str(&if problems.is_empty() {
        format!("{} in {files}: fine\n", counted(documents, "document"))
    } else {
        format!("{} in {files}\n", counted(problems.len(), "problem"))
    });
    told
}

fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

fn value(texts: &[Text], documents: usize, problems: &[Problem]) -> Value {
    let problems: Vec<Value> = problems
        .iter()
        .map(|problem| {
            let (line, column) = problem.at.unzip();
            json!({
                "file": problem.file, "line": line, "column": column,
                "path": problem.path, "message": problem.message,
            })
        })
        .collect();
    json!({ "fine": problems.is_empty(), "documents": documents, "files": texts.len(), "problems": problems })
}
