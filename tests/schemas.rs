//! The committed schemas, and the description and the reference page of the API, are what the program makes.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::path::{Path, PathBuf};
use std::process::Command;

use mainstay::model::locate;
use serde_json::Value;

fn files(folder: &Path) -> std::io::Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        files
            .push((entry.file_name().to_string_lossy().into_owned(), std::fs::read_to_string(entry.path())?));
    }
    files.sort();
    Ok(files)
}

#[test]
fn the_committed_schemas_are_those_of_the_types() {
    let made = tempfile::tempdir().unwrap();
    let page = tempfile::NamedTempFile::new().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_mainstay"));
    let run = command.arg("schema").arg(made.path()).arg("--page").arg(page.path()).output().unwrap();
    assert!(run.status.success());
    let committed = files(Path::new("schemas")).unwrap();
    let made = files(made.path()).unwrap();
    assert_eq!(committed.len(), 12, "one a kind, one for all kinds, and the API's");
    let remedy = "the types changed; run: cargo run -- schema schemas --page docs/api.md";
    assert!(committed == made, "{remedy}");
    let [committed, made] = [Path::new("docs/api.md"), page.path()].map(std::fs::read_to_string);
    assert!(committed.unwrap() == made.unwrap(), "{remedy}");
}

/// The manifests that are shipped and those of the examples.
fn manifests() -> Vec<PathBuf> {
    let examples = std::fs::read_dir("examples").unwrap().map(|entry| entry.unwrap().path());
    let folders = examples.filter(|path| path.is_dir()).chain([PathBuf::from("manifests")]);
    let mut files: Vec<PathBuf> = folders
        .flat_map(|folder| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
        .collect();
    files.sort();
    files
}

fn wrong(schema: &Path, text: &str) -> Vec<String> {
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(schema).unwrap()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let documents = locate::read(text, None).unwrap();
    assert!(!documents.is_empty());
    documents
        .iter()
        .flat_map(|document| validator.iter_errors(&document.value).map(|error| error.to_string()))
        .collect()
}

#[test]
fn every_manifest_is_right_by_the_schema_that_its_first_line_names_and_by_the_one_of_all_kinds() {
    let files = manifests();
    assert!(files.len() > 10, "{files:?}");
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let named = text.lines().next().unwrap().strip_prefix("# yaml-language-server: $schema=");
        let named = path.parent().unwrap().join(named.unwrap_or_else(|| panic!("{}", path.display())));
        for schema in [named.as_path(), Path::new("schemas/mainstay.json")] {
            assert_eq!(wrong(schema, &text), [""; 0], "{} by {}", path.display(), schema.display());
        }
    }
}

#[test]
fn the_schema_of_all_kinds_goes_by_the_kind_that_a_document_names() {
    let schema = Path::new("schemas/mainstay.json");
    let node = "apiVersion: mainstay.dev/v1\nkind: Node\nmetadata: {name: ND1, namespace: IN1}\nspec: {name: a, ip-address: h}\n";
    assert_eq!(wrong(schema, node), [""; 0]);
    for (from, to) in
        [("kind: Node", "kind: Service"), ("ip-address", "ip-adress"), ("kind: Node", "kind: Event")]
    {
        assert_ne!(wrong(schema, &node.replace(from, to)), [""; 0], "{from} → {to}");
    }
}
