//! What is done to a folder: as editors, git, git-sync, Kubernetes and people do it, step by step.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;

use crate::rng::Rng;
use crate::truth::{Moment, State, document, files, truth};

/// How the folder is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// A folder.
    Plain,
    /// A link to one of several folders, pointed elsewhere for each version, as git-sync does.
    Swapped,
    /// Links to files behind a link, as Kubernetes mounts a ConfigMap.
    Mounted,
}

/// The number of a file, by which its documents are named; it keeps that when it is moved.
fn number_of(path: &Path) -> u64 {
    path.file_stem().unwrap().to_str().unwrap().rsplit('-').next().unwrap().parse().unwrap()
}

/// A folder, and what it was like after each step.
pub(crate) struct Edits {
    pub(crate) rng: Rng,
    /// What the folder declared after each step; none where it could not be read whole, or held a mistake.
    pub(crate) history: Vec<Option<Moment>>,
    layout: Layout,
    base: TempDir,
    root: PathBuf,
    /// The version that is written next.
    version: u64,
    /// Names of what was done, for people.
    told: Vec<String>,
}

impl Edits {
    pub(crate) fn new(mut rng: Rng) -> Edits {
        let base = tempfile::tempdir().unwrap();
        let layout = match rng.between(0, 9) {
            0..6 => Layout::Plain,
            6..8 => Layout::Swapped,
            _ => Layout::Mounted,
        };
        let root = base.path().join("fleet");
        let mut edits = Edits {
            rng,
            history: Vec::new(),
            layout,
            base,
            root,
            version: 1,
            told: vec![format!("{layout:?}")],
        };
        match layout {
            Layout::Plain => {
                fs::create_dir(&edits.root).unwrap();
                let root = edits.root.clone();
                edits.fill(&root, 4);
            }
            Layout::Swapped => edits.swap(),
            Layout::Mounted => {
                fs::create_dir(&edits.root).unwrap();
                edits.mount();
            }
        }
        edits.look();
        edits
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn told(&self) -> String {
        self.told.join("\n")
    }

    /// Keeps what the folder is like.
    fn look(&mut self) {
        let state = truth(&self.root);
        if self.history.last() != Some(&state) {
            self.history.push(state);
        }
    }

    /// A step, and a pause after it: most often none, sometimes one in which the folder is read.
    fn step(&mut self, what: &str, act: impl FnOnce()) {
        act();
        self.look();
        self.told.push(format!("  {}: {what}", self.history.len() - 1));
        let ms = match self.rng.between(0, 19) {
            0..12 => return,
            12..17 => self.rng.between(0, 5),
            17..19 => self.rng.between(20, 80),
            _ => self.rng.between(100, 350),
        };
        std::thread::sleep(Duration::from_millis(ms));
    }

    fn write(&mut self, path: &Path, text: &str) {
        let shown = path.display().to_string();
        self.step(&format!("write {shown}"), || fs::write(path, text).unwrap());
    }

    fn rename(&mut self, from: &Path, to: &Path) {
        let shown = format!("rename {} {}", from.display(), to.display());
        self.step(&shown, || fs::rename(from, to).unwrap());
    }

    fn remove(&mut self, path: &Path) {
        self.step(&format!("remove {}", path.display()), || fs::remove_file(path).unwrap());
    }

    fn next_version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    /// The text of a file: one to three documents of one version, named after the file's number.
    fn text(&mut self, number: u64) -> String {
        let version = self.next_version();
        let count = 1 + number % 3;
        let documents: Vec<String> =
            (0..count).map(|at| document(&format!("t{number}-{at}"), version)).collect();
        documents.join("---\n")
    }

    /// Writes files into a folder that nobody reads yet, or that has none.
    fn fill(&mut self, folder: &Path, at_least: u64) {
        for number in 0..self.rng.between(at_least, 8) {
            let text = self.text(number);
            let path = folder.join(if number % 3 == 2 {
                format!("sub/{number}.yaml")
            } else {
                format!("{number}.yaml")
            });
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    /// A file of the folder, by the number in its name.
    fn pick(&mut self) -> Option<(PathBuf, u64)> {
        let mut all = files(&self.root);
        all.sort();
        let path = self.rng.pick(&all)?;
        let number = number_of(&path);
        Some((path, number))
    }

    /// Does one thing.
    pub(crate) fn one(&mut self) {
        match (self.layout, self.rng.between(0, 9)) {
            (_, 0) => self.vanish(),
            (Layout::Mounted, 1) => self.noise(),
            (Layout::Mounted, _) => self.mount(),
            (Layout::Swapped, 1..=4) => self.swap(),
            (Layout::Plain | Layout::Swapped, _) => self.edit(),
        }
    }

    /// Whether it can be applied whole, and declares something.
    fn is_at_rest(&self) -> bool {
        truth(&self.root).is_some_and(|moment| !moment.has_empty && !moment.state.is_empty())
    }

    /// Leaves the folder as one that can be applied; answers what it declares.
    pub(crate) fn come_to_rest(&mut self) -> State {
        // What is no file, or a mistake, is put right; what is half written is written.
        for path in files(&self.root) {
            if self.layout != Layout::Mounted && !self.is_at_rest() {
                let number = number_of(&path);
                let text = self.text(number);
                self.save_beside(&path, &text);
            }
        }
        if !self.is_at_rest() {
            match self.layout {
                Layout::Plain => {
                    let root = self.root.clone();
                    self.fill(&root, 4);
                    self.look();
                }
                Layout::Swapped => self.swap(),
                Layout::Mounted => self.mount(),
            }
        }
        self.look();
        assert!(self.is_at_rest(), "{}", self.told());
        truth(&self.root).unwrap().state
    }

    /// One change as an editor, git or a person makes it.
    fn edit(&mut self) {
        let Some((path, number)) = self.pick() else { return self.make() };
        match self.rng.between(0, 12) {
            0 => self.write_slowly(&path, number),
            1 => self.save_as_vim(&path, number),
            2 => self.save_as_emacs(&path, number),
            3 => self.save_as_jetbrains(&path, number),
            4 => {
                let text = self.text(number);
                self.save_beside(&path, &text);
            }
            5 | 6 => self.make(),
            7 => self.remove(&path),
            8 => self.move_file(&path, number),
            9 => self.move_folder(),
            10 => self.hide(&path, number),
            11 => self.check_out(),
            _ => self.noise(),
        }
    }

    fn make(&mut self) {
        let number = self.rng.between(0, 11);
        let taken = files(&self.root).iter().any(|path| number_of(path) == number);
        let folder = if self.rng.one_in(3) {
            self.root.join(format!("new{}", self.version))
        } else {
            self.root.clone()
        };
        if taken {
            return self.noise();
        }
        let text = self.text(number);
        self.step("make a folder", || fs::create_dir_all(&folder).unwrap());
        self.write(&folder.join(format!("{number}.yaml")), &text);
    }

    /// In place, and in pieces, as `generate > file` and an editor on a slow disk do.
    fn write_slowly(&mut self, path: &Path, number: u64) {
        let text = self.text(number);
        let cut = usize::try_from(self.rng.between(0, text.len() as u64)).unwrap();
        self.write(path, "");
        self.write(path, &text[..cut]);
        self.write(path, &text);
    }

    fn save_beside(&mut self, path: &Path, text: &str) {
        let beside = path
            .with_extension(["tmp", "yaml.tmp", "yaml~"][usize::try_from(self.rng.between(0, 2)).unwrap()]);
        self.write(&beside, text);
        self.rename(&beside, path);
    }

    fn save_as_vim(&mut self, path: &Path, number: u64) {
        let text = self.text(number);
        let folder = path.parent().unwrap().to_owned();
        let swap = folder.join(format!(".{number}.yaml.swp"));
        let (probe, backup) = (folder.join("4913"), folder.join(format!("{number}.yaml~")));
        self.write(&swap, "b0VIM 9.1");
        self.write(&probe, "");
        self.remove(&probe);
        self.rename(path, &backup);
        self.write(path, "");
        self.write(path, &text);
        self.remove(&backup);
        self.remove(&swap);
    }

    fn save_as_emacs(&mut self, path: &Path, number: u64) {
        let text = self.text(number);
        let folder = path.parent().unwrap().to_owned();
        let (lock, own) = (folder.join(format!(".#{number}.yaml")), folder.join(format!("#{number}.yaml#")));
        self.step("lock", || symlink("me@box.4711:1", &lock).unwrap());
        self.write(&own, &text);
        self.write(path, &text);
        self.remove(&own);
        self.remove(&lock);
    }

    fn save_as_jetbrains(&mut self, path: &Path, number: u64) {
        let text = self.text(number);
        let with = |ending: &str| PathBuf::from(format!("{}{ending}", path.display()));
        let (new, old) = (with("___jb_tmp___"), with("___jb_old___"));
        self.write(&new, &text);
        self.rename(path, &old);
        self.rename(&new, path);
        self.remove(&old);
    }

    fn move_file(&mut self, path: &Path, number: u64) {
        let version = self.next_version();
        let to = self.root.join(format!("moved{version}-{number}.yaml"));
        self.rename(path, &to);
    }

    fn move_folder(&mut self) {
        let (sub, other) = (self.root.join("sub"), self.root.join("other"));
        match (sub.is_dir(), other.exists()) {
            (true, false) => self.rename(&sub, &other),
            (false, true) => self.rename(&other, &sub),
            (true, true) | (false, false) => self.noise(),
        }
    }

    /// What can't be read is put in a file's place for a while: a pipe, a link to nothing, a link out, a file that is no text.
    fn hide(&mut self, path: &Path, number: u64) {
        let beside = path.with_extension("tmp");
        match self.rng.between(0, 3) {
            0 => self.step("make a pipe", || mknodat(CWD, &beside, FileType::Fifo, Mode::RUSR, 0).unwrap()),
            1 => self.step("make a link to nothing", || symlink("nothing.yaml", &beside).unwrap()),
            2 => self.step("make a link out", || symlink("/etc/hostname", &beside).unwrap()),
            _ => self.write(&beside, "kind: [\n"),
        }
        self.rename(&beside, path);
        if self.rng.one_in(2) {
            self.one_more();
        }
        let text = self.text(number);
        if path.symlink_metadata().is_ok() {
            self.save_beside(path, &text);
        }
    }

    /// Something small meanwhile.
    fn one_more(&mut self) {
        if let Some((path, number)) = self.pick()
            && path.is_file()
        {
            let text = self.text(number);
            self.write(&path, &text);
        }
    }

    /// Another version of everything, file by file, as git writes a checkout: each is removed and made anew.
    fn check_out(&mut self) {
        let mut all = files(&self.root);
        all.sort();
        for path in all {
            let number = number_of(&path);
            let text = self.text(number);
            self.remove(&path);
            if !self.rng.one_in(5) {
                self.write(&path, &text);
            }
        }
    }

    /// The folder is away for a while.
    fn vanish(&mut self) {
        let away = self.base.path().join("away");
        let root = self.root.clone();
        self.rename(&root, &away);
        if self.rng.one_in(3) {
            self.step("an empty one in its place", || fs::create_dir(&root).unwrap());
            self.step("it goes", || fs::remove_dir(&root).unwrap());
        }
        self.rename(&away, &root);
    }

    /// What is no manifest.
    fn noise(&mut self) {
        let git = self.root.join(".git");
        self.step("noise", || {
            fs::create_dir_all(&git).unwrap();
            fs::write(git.join("index.lock"), "x").unwrap();
            fs::rename(git.join("index.lock"), git.join("index")).unwrap();
        });
        let readme = self.root.join("README.md");
        self.write(&readme, "text");
    }

    /// A new tree beside the old one, then the link is pointed to it; the old one goes file by file.
    fn swap(&mut self) {
        let version = self.next_version();
        let tree = self.base.path().join(format!("trees/{version}"));
        fs::create_dir_all(&tree).unwrap();
        self.fill(&tree, 2);
        let old = fs::read_link(&self.root).ok();
        let link = self.base.path().join("link");
        symlink(Path::new("trees").join(tree.file_name().unwrap()), &link).unwrap();
        if self.history.is_empty() {
            return fs::rename(&link, &self.root).unwrap();
        }
        let root = self.root.clone();
        self.rename(&link, &root);
        if let Some(old) = old {
            let old = self.base.path().join(old);
            for path in files(&old) {
                fs::remove_file(path).unwrap();
            }
            fs::remove_dir_all(old).unwrap();
        }
    }

    /// Another version of a ConfigMap, in the order of kubelet's atomic writer.
    fn mount(&mut self) {
        let new = format!("..{}", self.next_version());
        let folder = self.root.join(&new);
        fs::create_dir_all(&folder).unwrap();
        self.fill(&folder, 2);
        let old = fs::read_link(self.root.join("..data")).ok();
        let (data, beside) = (self.root.join("..data"), self.root.join("..data_tmp"));
        symlink(&new, &beside).unwrap();
        self.rename(&beside, &data);
        let names = |folder: &Path| -> Vec<PathBuf> {
            let mut names: Vec<_> =
                fs::read_dir(folder).unwrap().map(|it| PathBuf::from(it.unwrap().file_name())).collect();
            names.sort();
            names
        };
        for name in names(&folder) {
            let link = self.root.join(&name);
            if link.symlink_metadata().is_err() {
                self.step("link", || symlink(Path::new("..data").join(&name), &link).unwrap());
            }
        }
        let root = self.root.clone();
        for name in names(&root) {
            let link = root.join(&name);
            let is_ours = !name.to_string_lossy().starts_with('.') && link.is_symlink();
            if is_ours && link.metadata().is_err() {
                self.remove(&link);
            }
        }
        if let Some(old) = old {
            fs::remove_dir_all(self.root.join(old)).unwrap();
        }
    }
}
