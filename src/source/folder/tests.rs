//! Which files of a folder are its manifests.

use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::collect::MAX_DEPTH;
use super::*;
use crate::model::Problem;
use crate::source::{Manifest, Text};

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

/// The manifests below a folder.
fn read(root: &Path) -> Result<Vec<Manifest>, Problem> {
    collect(root, &Stamps::default()).map_err(|unread| match unread {
        Unread::Flaw(problem) => problem,
        Unread::Moving => panic!("nobody changes it"),
    })
}

/// Their names.
fn listed(root: &Path) -> Result<Vec<String>, Problem> {
    Ok(read(root)?.into_iter().map(|manifest| manifest.name).collect())
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
fn a_link_to_nothing_is_refused_for_what_it_named_is_not_known_to_be_gone() {
    let folder = folder(&["a.yaml"]);
    symlink("gone", folder.path().join("log")).unwrap();
    assert_eq!(listed(folder.path()).unwrap(), ["a.yaml"]);
    symlink("gone.yaml", folder.path().join("b.yaml")).unwrap();
    let problem = listed(folder.path()).unwrap_err();
    assert!(
        problem.to_string().ends_with("b.yaml: is a link to nothing; remove it, or put back what it names"),
        "{problem}"
    );
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
fn folders_of_a_config_map_are_read_through_their_links() {
    let folder = folder(&["..2026/sub/a.yaml"]);
    symlink("..2026", folder.path().join("..data")).unwrap();
    symlink("..data/sub", folder.path().join("sub")).unwrap();
    assert_eq!(listed(folder.path()).unwrap(), ["sub/a.yaml"]);
}

#[test]
fn what_editors_leave_beside_a_file_is_not_read() {
    let files = [
        "a.yaml",
        ".a.yaml.swp",
        "4913",
        "a.yaml~",
        "#a.yaml#",
        "a.yaml.tmp",
        "a.yaml___jb_tmp___",
        "a.yaml___jb_old___",
        ".goutputstream-ABC",
        "b.tmp/c.yaml",
    ];
    let folder = folder(&files);
    // Emacs's lock names who edits the file.
    symlink("me@box.1234:5", folder.path().join(".#a.yaml")).unwrap();
    assert_eq!(listed(folder.path()).unwrap(), ["a.yaml"]);
}

#[test]
fn what_is_no_file_keeps_nobody_waiting_and_is_refused() {
    let folder = folder(&["a.yaml"]);
    let pipe = folder.path().join("b.yaml");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
        .unwrap();
    let problem = listed(folder.path()).unwrap_err();
    assert!(problem.to_string().contains("neither a file nor a folder"), "{problem}");
    std::fs::remove_file(&pipe).unwrap();
    symlink("/dev/zero", &pipe).unwrap();
    let problem = listed(folder.path()).unwrap_err();
    assert!(problem.to_string().contains("is a link out of"), "{problem}");
}

#[test]
fn an_absolute_link_is_one_out_of_the_folder_though_it_comes_back() {
    let folder = folder(&["a.yaml"]);
    symlink(folder.path().join("a.yaml"), folder.path().join("b.yaml")).unwrap();
    assert!(listed(folder.path()).unwrap_err().to_string().contains("is a link out of"));
}

#[test]
fn a_file_that_is_no_text_or_too_large_is_unreadable_and_not_empty() {
    let folder = folder(&["a.yaml", "b.yaml"]);
    std::fs::write(folder.path().join("a.yaml"), b"kind: \xff").unwrap();
    std::fs::write(folder.path().join("b.yaml"), vec![b' '; crate::model::locate::MAX_TEXT_BYTES + 1])
        .unwrap();
    let texts: Vec<Text> = read(folder.path()).unwrap().into_iter().map(|manifest| manifest.text).collect();
    let why = |text: &Text| match text {
        Text::Unreadable(why) => why.clone(),
        Text::Read(_) | Text::Known => panic!("{text:?}"),
    };
    assert_eq!(why(&texts[0]), "is no UTF-8 text (after 6 bytes); save it as UTF-8");
    assert!(why(&texts[1]).contains("split it into several files"), "{texts:?}");
}

#[test]
fn a_file_has_a_stamp_once_a_later_content_could_not_have_the_same() {
    let folder = folder(&["a.yaml"]);
    let stamp = || read(folder.path()).unwrap().remove(0).stamp;
    assert_eq!(stamp(), None, "it was written just now");
}

#[test]
fn the_name_of_a_folder_does_not_change_with_the_links_on_its_way() {
    let folder = folder(&["trees/one/a.yaml", "trees/two/a.yaml"]);
    let link = folder.path().join("current");
    symlink("trees/one", &link).unwrap();
    let name = Folder::new(&link).name().to_owned();
    assert_eq!(name, format!("folder {}", link.display()));
    assert_eq!(Folder::new(&folder.path().join("trees/../current/.")).name(), name);
    assert_eq!(full(&link.join("../a")), link.join("../a"), "which is trees/a");
}
