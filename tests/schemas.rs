//! The committed schemas are what the program makes.

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
    let run = Command::new(env!("CARGO_BIN_EXE_mainstay")).arg("schema").arg(made.path()).output().unwrap();
    assert!(run.status.success());
    let committed = files(Path::new("schemas")).unwrap();
    let made = files(made.path()).unwrap();
    assert_eq!(committed.len(), 9, "one a kind");
    assert!(committed == made, "the types changed; run: cargo run -- schema schemas");
}
