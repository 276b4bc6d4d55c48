//! The committed schemas, and the description and the reference page of the API, are what the program makes.

use std::path::Path;
use std::process::Command;

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
    assert_eq!(committed.len(), 11, "one a kind, and the API's");
    let remedy = "the types changed; run: cargo run -- schema schemas --page docs/api.md";
    assert!(committed == made, "{remedy}");
    let [committed, made] = [Path::new("docs/api.md"), page.path()].map(std::fs::read_to_string);
    assert!(committed.unwrap() == made.unwrap(), "{remedy}");
}
