//! Which files of a folder are its manifests.

use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

/// A folder with these files, each empty.
fn folder(files: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in files {
        let path = folder.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    }
    folder
}

/// The manifests below a folder, as paths within it.
fn listed(root: &Path) -> Result<Vec<String>, Problem> {
    let mut files = BTreeSet::new();
    list(root, root, 0, &mut files)?;
    Ok(files.iter().map(|path| path.strip_prefix(root).unwrap().display().to_string()).collect())
}

#[test]
fn manifests_are_found_in_every_folder_by_their_ending() {
    let folder = folder(&["b.yaml", "a/c.yml", "a/b/d.json", "README.md", "yaml", "x.yaml.bak"]);
    assert_eq!(listed(folder.path()).unwrap(), ["a/b/d.json", "a/c.yml", "b.yaml"]);
}

#[test]
fn what_is_hidden_or_an_editor_s_is_not_read() {
    let folder = folder(&["a.yaml", ".b.yaml", ".git/c.yaml", "#d.yaml", ".#e.yaml", "f.yaml~", "g~/h.yaml"]);
    assert_eq!(listed(folder.path()).unwrap(), ["a.yaml"]);
}

#[test]
fn a_folder_that_is_called_like_a_manifest_is_a_folder() {
    let folder = folder(&["a.yaml/b.yaml"]);
    assert_eq!(listed(folder.path()).unwrap(), ["a.yaml/b.yaml"]);
}

#[test]
fn a_folder_that_is_too_deep_is_refused_and_not_left_out() {
    let deep = |levels: usize| format!("{}a.yaml", "d/".repeat(levels));
    assert_eq!(listed(folder(&[&deep(MAX_DEPTH)]).path()).unwrap(), [deep(MAX_DEPTH)]);
    let problem = listed(folder(&[&deep(MAX_DEPTH + 1)]).path()).unwrap_err();
    assert!(problem.to_string().contains("folders deep"), "{problem}");
}

#[test]
fn a_link_out_of_the_folder_is_refused() {
    let (outside, folder) = (folder(&["secret.yaml"]), folder(&["a.yaml"]));
    symlink(outside.path().join("secret.yaml"), folder.path().join("b.yaml")).unwrap();
    let problem = listed(folder.path()).unwrap_err();
    assert!(problem.to_string().contains("is a link out of the manifests folder"), "{problem}");
}

#[test]
fn a_linked_folder_is_not_followed() {
    let (outside, folder) = (folder(&["secret.yaml"]), folder(&["a.yaml"]));
    symlink(outside.path(), folder.path().join("more")).unwrap();
    assert_eq!(listed(folder.path()).unwrap(), ["a.yaml"]);
}

#[test]
fn a_link_within_the_folder_is_read_even_through_a_hidden_one() {
    // As Kubernetes mounts a ConfigMap.
    let folder = folder(&["..2026/a.yaml"]);
    symlink("..2026", folder.path().join("..data")).unwrap();
    symlink("..data/a.yaml", folder.path().join("a.yaml")).unwrap();
    assert_eq!(listed(folder.path()).unwrap(), ["a.yaml"]);
}

#[test]
fn a_linked_folder_within_is_read_once_and_a_circle_is_no_trap() {
    let folder = folder(&["a/b.yaml"]);
    symlink("a", folder.path().join("again")).unwrap();
    symlink("..", folder.path().join("a/up")).unwrap();
    assert_eq!(listed(folder.path()).unwrap(), ["a/b.yaml"]);
}

#[test]
fn a_link_to_nowhere_is_passed_over() {
    let folder = folder(&["a.yaml"]);
    symlink("gone.yaml", folder.path().join("b.yaml")).unwrap();
    assert_eq!(listed(folder.path()).unwrap(), ["a.yaml"]);
}

#[test]
fn the_folder_itself_may_be_a_link() {
    let (folder, elsewhere) = (folder(&["a.yaml"]), folder(&[]));
    symlink("a.yaml", folder.path().join("b.yaml")).unwrap();
    let link = elsewhere.path().join("link");
    symlink(folder.path(), &link).unwrap();
    assert_eq!(listed(&link).unwrap(), ["a.yaml", "b.yaml"]);
}

#[test]
fn a_folder_that_is_not_there_is_a_problem_and_not_empty() {
    let folder = folder(&[]);
    let problem = listed(&folder.path().join("gone")).unwrap_err();
    assert!(problem.to_string().contains("can't be read"), "{problem}");
}

#[test]
fn another_folder_under_the_same_name_is_another() {
    let folder = folder(&["one/a.yaml", "two/a.yaml"]);
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    let before = identity(&one);
    assert!(before.is_some() && before == identity(&one));
    std::fs::rename(&one, folder.path().join("old")).unwrap();
    assert_eq!(identity(&one), None);
    std::fs::rename(&two, &one).unwrap();
    assert!(identity(&one).is_some_and(|now| Some(now) != before));
}
