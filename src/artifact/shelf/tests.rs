//! What an address covers, and what it does not.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::*;

/// A time at which all that was just written has been still for long.
fn later() -> SystemTime {
    SystemTime::now() + Duration::from_secs(60)
}

fn write(folder: &Path, name: &str, text: &str, mode: u32) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// A folder `app` with a program, a file, an empty folder, and a link.
fn app() -> TempDir {
    let folder = TempDir::new().unwrap();
    write(folder.path(), "app/bin/run", "#!/bin/sh\necho hello\n", 0o755);
    write(folder.path(), "app/conf/a.yaml", "a: 1\n", 0o600);
    std::fs::create_dir(folder.path().join("app/empty")).unwrap();
    symlink("../conf/a.yaml", folder.path().join("app/bin/a")).unwrap();
    folder
}

fn at(folder: &TempDir, name: &str) -> String {
    folder.path().join(name).display().to_string()
}

fn read(path: &str) -> Result<Content, Unread> {
    Shelf::default().read(path, later())
}

fn refusal(path: &str) -> String {
    match read(path) {
        Err(Unread::Refused(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_same_content_has_the_same_address_for_ever() {
    // Another address here would restart everything that runs from an artifact, everywhere, for nothing.
    let content = read(&at(&app(), "app")).unwrap();
    assert_eq!(content.address, "6f717d71f2e6b26be60c4685e640fa77239d8a57fc6101acdf276c900ee40247");
    assert_eq!((content.size, content.file_sha256), (5632, None));
}

#[test]
fn times_owners_and_permissions_but_executable_make_no_difference() {
    let folder = app();
    let before = read(&at(&folder, "app")).unwrap();
    let file = folder.path().join("app/conf/a.yaml");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o664)).unwrap();
    std::fs::File::options().write(true).open(&file).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(read(&at(&folder, "app")).unwrap(), before);
}

#[test]
fn content_names_links_and_what_can_be_executed_make_a_difference() {
    let original = read(&at(&app(), "app")).unwrap().address;
    let changes: [fn(&Path); 5] = [
        |app| std::fs::write(app.join("conf/a.yaml"), "a: 2\n").unwrap(),
        |app| std::fs::rename(app.join("conf/a.yaml"), app.join("conf/b.yaml")).unwrap(),
        |app| std::fs::remove_dir(app.join("empty")).unwrap(),
        |app| std::fs::set_permissions(app.join("bin/run"), std::fs::Permissions::from_mode(0o644)).unwrap(),
        |app| {
            std::fs::remove_file(app.join("bin/a")).unwrap();
            symlink("run", app.join("bin/a")).unwrap();
        },
    ];
    for (nth, change) in changes.into_iter().enumerate() {
        let folder = app();
        change(&folder.path().join("app"));
        assert_ne!(read(&at(&folder, "app")).unwrap().address, original, "change {nth}");
    }
}

#[test]
fn a_file_has_the_digest_that_people_know_beside_its_address() {
    let folder = TempDir::new().unwrap();
    write(folder.path(), "app.jar", "hello\n", 0o644);
    let content = read(&at(&folder, "app.jar")).unwrap();
    let known = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
    assert_eq!(content.sha256(), known, "as sha256sum prints it");
    assert_ne!(content.address, known);
    write(folder.path(), "app.jar", "hello\n", 0o755);
    let executable = read(&at(&folder, "app.jar")).unwrap();
    assert_eq!(executable.sha256(), known);
    assert_ne!(executable.address, content.address, "a file that can be executed now has to be sent again");
}

#[test]
fn what_is_packed_is_what_any_tar_unpacks() {
    let (folder, target) = (app(), TempDir::new().unwrap());
    let long = format!("app/{}/{}.txt", "d".repeat(120), "f".repeat(140));
    write(folder.path(), &long, "deep\n", 0o644);
    let content = read(&at(&folder, "app")).unwrap();
    let mut tar = Vec::new();
    pack::pack(&at(&folder, "app"), &mut tar).unwrap();
    assert_eq!((hex(&Sha256::digest(&tar)), tar.len() as u64), (content.address.clone(), content.size));
    std::fs::write(target.path().join("a.tar"), &tar).unwrap();
    let unpacked = Command::new("tar").current_dir(target.path()).args(["-xf", "a.tar"]).status().unwrap();
    assert!(unpacked.success());
    assert_eq!(std::fs::read_to_string(target.path().join(&long)).unwrap(), "deep\n");
    assert_eq!(read(&at(&target, "app")).unwrap(), content);
}

#[test]
fn the_name_may_be_a_link_to_what_is_sent() {
    let folder = app();
    symlink("app", folder.path().join("current")).unwrap();
    let mut tar = Vec::new();
    pack::pack(&at(&folder, "current"), &mut tar).unwrap();
    assert!(tar.starts_with(b"current\0"));
    assert!(read(&at(&folder, "current")).is_ok());
}

#[test]
fn a_link_out_of_the_artifact_is_refused_by_name() {
    for target in ["/etc/passwd", "../../other", "../../app/bin/run", "x/../../../.."] {
        let folder = app();
        symlink(target, folder.path().join("app/bin/out")).unwrap();
        let why = refusal(&at(&folder, "app"));
        assert!(why.contains("app/bin/out is a link to") && why.contains(target), "{why}");
    }
}

#[test]
fn what_is_not_there_or_no_file_is_refused_by_name() {
    let folder = app();
    let why = refusal(&at(&folder, "gone"));
    assert!(why.ends_with("gone does not exist"), "{why}");
    let made = Command::new("mkfifo").arg(folder.path().join("app/pipe")).status().unwrap();
    assert!(made.success());
    let why = refusal(&at(&folder, "app"));
    assert!(why.ends_with("app/pipe is neither a file, a folder nor a link"), "{why}");
}

#[test]
fn what_is_being_written_is_not_taken() {
    let folder = app();
    let path = at(&folder, "app");
    let mut shelf = Shelf::default();
    let Err(Unread::Moving(wait)) = shelf.read(&path, SystemTime::now()) else {
        panic!("it was written a moment ago")
    };
    assert!(wait <= STILL);
    assert!(shelf.read(&path, later()).is_ok());
    // It is known now, however young it is.
    assert!(shelf.read(&path, SystemTime::now()).is_ok());
}

#[test]
fn a_clock_that_was_set_back_does_not_hold_an_artifact_for_ever() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
    assert_eq!(still_in(now - Duration::from_secs(5), now), None);
    assert_eq!(still_in(now - STILL, now), None);
    assert_eq!(still_in(now - STILL / 4, now), Some(STILL / 4 * 3));
    assert_eq!(still_in(now + STILL / 4, now), Some(STILL));
    assert_eq!(still_in(now + Duration::from_secs(500), now), None);
}

#[test]
fn what_is_known_is_not_read_again() {
    let folder = app();
    let path = at(&folder, "app");
    let mut shelf = Shelf::default();
    let content = shelf.read(&path, later()).unwrap();
    let (stamp, _) = shelf.known[&path];
    // A mark that no reading would give.
    shelf.known.insert(path.clone(), (stamp, Content { size: 7, ..content.clone() }));
    assert_eq!(shelf.read(&path, later()).unwrap().size, 7);
    write(folder.path(), "app/conf/a.yaml", "a: 1\n", 0o600);
    assert_eq!(shelf.read(&path, later()).unwrap(), content, "it was written, so it was read");
    shelf.keep(&BTreeSet::new());
    assert!(shelf.known.is_empty());
}

#[test]
fn an_artifact_that_changes_while_it_is_packed_is_no_artifact() {
    let folder = TempDir::new().unwrap();
    write(folder.path(), "app.jar", &"x".repeat(100_000), 0o644);
    let (path, root) = (folder.path().join("app.jar"), at(&folder, "app.jar"));
    let entries = tree::list(&path).unwrap();
    std::fs::write(&path, "shorter").unwrap();
    let packed = pack::write(Path::new(&root), "app.jar", &entries, io::sink());
    assert!(matches!(packed, Err(PackError::Changed(_))), "{packed:?}");

    /// Cuts the file that is being read.
    struct Cutter<'a>(&'a Path);
    impl Write for Cutter<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            std::fs::File::options().write(true).open(self.0)?.set_len(10)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    write(folder.path(), "app.jar", &"x".repeat(1_000_000), 0o644);
    let entries = tree::list(&path).unwrap();
    let packed = pack::write(Path::new(&root), "app.jar", &entries, Cutter(&path));
    assert!(matches!(packed, Err(PackError::Changed(_))), "{packed:?}");
}
