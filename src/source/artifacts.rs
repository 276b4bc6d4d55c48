//! Fills in what the artifacts that documents name hold now, so that a changed content is a changed document.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::reading::{Manifest, Refusal, Text};
use crate::artifact::{Content, Shelf, Unread};
use crate::model::admit::Admitted;
use crate::model::kinds::ArtifactSpec;
use crate::model::{Problem, Spec};

/// Fills in address and size of every artifact. Reads those that changed, so it takes as long as that does.
pub(super) fn fill(set: &mut [Admitted], shelf: &mut Shelf, now: SystemTime) -> Result<(), Refusal> {
    let mut wrong = Vec::new();
    let mut moving = Vec::new();
    let mut again_in = None;
    let mut named = BTreeSet::new();
    for admitted in set {
        let Some(spec) = artifact(admitted) else { continue };
        let spec = spec.clone();
        named.insert(spec.path.clone());
        match shelf.read(&spec.path, now) {
            Ok(content) => match stated(&spec, &content) {
                Ok(()) => {
                    if let Spec::ServiceType(service_type) = &mut admitted.document.spec {
                        let ArtifactSpec { path, sha256, .. } = spec;
                        let (address, size) = (Some(content.address), Some(content.size));
                        service_type.artifact = Some(ArtifactSpec { path, sha256, address, size });
                    }
                }
                Err(why) => wrong.push(admitted.problem("/spec/artifact/sha256", why)),
            },
            Err(Unread::Refused(why)) => wrong.push(admitted.problem("/spec/artifact/path", why)),
            Err(Unread::Moving(wait)) => {
                again_in = Some(again_in.map_or(wait, |other: Duration| other.max(wait)));
                let why =
                    format!("{} is being written; it is taken once it has been still for 1 s", spec.path);
                moving.push(admitted.problem("/spec/artifact/path", why));
            }
        }
    }
    shelf.keep(&named);
    match (wrong.is_empty(), moving.is_empty()) {
        (true, true) => Ok(()),
        (true, false) => Err(Refusal { again_in, ..moving.into() }),
        // Mistakes only: what is still being written may add to them, and is no mistake yet.
        (false, _) => Err(wrong.into()),
    }
}

/// What a person says that the content has to be, it has to be.
fn stated(spec: &ArtifactSpec, content: &Content) -> Result<(), String> {
    match &spec.sha256 {
        Some(stated) if stated != content.sha256() => {
            let found = content.sha256();
            Err(format!(
                "{} has {found}; bring the one that is meant, or change or remove the line",
                spec.path
            ))
        }
        Some(_) | None => Ok(()),
    }
}

/// The artifact that a document names.
pub(super) fn artifact(admitted: &Admitted) -> Option<&ArtifactSpec> {
    match &admitted.document.spec {
        Spec::ServiceType(service_type) => service_type.artifact.as_ref(),
        Spec::Instance(_)
        | Spec::Tenant(_)
        | Spec::User(_)
        | Spec::Integration(_)
        | Spec::Node(_)
        | Spec::Service(_)
        | Spec::Process(_)
        | Spec::Revision(_)
        | Spec::Event(_) => None,
    }
}

/// Whether it is a manifest, with or without mistakes, and not some program's own YAML or JSON.
pub(super) fn is_meant_for_us(manifest: &Manifest) -> bool {
    match &manifest.text {
        Text::Read(text) => text.contains("mainstay.dev/"),
        Text::Unreadable(_) => false,
        // Nothing else is kept.
        Text::Known => true,
    }
}

/// Admits the manifests, and leaves out what is part of an artifact: a program's own YAML is no manifest. A manifest in there
/// could be meant either way, and to leave it out would delete its objects, so that is a mistake.
pub(super) fn admit_all(
    manifests: &[Manifest],
    mut admit: impl FnMut(&Manifest) -> Result<Vec<Admitted>, Vec<Problem>>,
) -> Result<Vec<Admitted>, Vec<Problem>> {
    // These first, for they say what is an artifact; a program's own files are then not even parsed.
    let ours: Vec<_> =
        manifests.iter().map(|manifest| is_meant_for_us(manifest).then(|| admit(manifest))).collect();
    let artifacts: BTreeSet<PathBuf> = ours
        .iter()
        .flatten()
        .flatten()
        .flatten()
        .filter_map(|admitted| Some(PathBuf::from(&artifact(admitted)?.path)))
        .collect();
    let mut set = Vec::new();
    let mut problems = Vec::new();
    for (manifest, admitted) in manifests.iter().zip(ours) {
        let mut around = manifest.path.iter().flat_map(|path| path.ancestors());
        match (around.find(|path| artifacts.contains(*path)), admitted) {
            (Some(artifact), Some(_)) => problems.push(manifest.problem(format!(
                "is a manifest inside of the artifact {}; keep the manifests out of what is sent",
                artifact.display()
            ))),
            (Some(_), None) => {}
            (None, admitted) => match admitted.unwrap_or_else(|| admit(manifest)) {
                Ok(documents) => set.extend(documents),
                Err(found) => problems.extend(found),
            },
        }
    }
    if problems.is_empty() { Ok(set) } else { Err(problems) }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::super::door::Door;
    use super::*;
    use crate::model::secret::{KEY_BYTES, Sealer};

    fn later() -> SystemTime {
        SystemTime::now() + Duration::from_secs(60)
    }

    /// A manifest `a/type.yaml` of a folder.
    fn manifest(folder: &TempDir, artifact: &str) -> Manifest {
        let text = format!(
            "apiVersion: mainstay.dev/v1\nkind: ServiceType\nmetadata: {{name: web}}\nspec:\n  command: [\"{{{{ artifact }}}}\"]\n  \
             artifact: {artifact}\n"
        );
        file(folder, "a/type.yaml", &text)
    }

    fn file(folder: &TempDir, name: &str, text: &str) -> Manifest {
        let path = Some(folder.path().join(name));
        Manifest { name: name.into(), path, stamp: None, text: Text::Read(text.into()) }
    }

    fn admitted(manifests: &[Manifest]) -> Result<Vec<Admitted>, Vec<Problem>> {
        Door::default().admit(manifests, &Sealer::new([0; KEY_BYTES]))
    }

    fn filled(folder: &TempDir, spec: &str, now: SystemTime) -> Result<ArtifactSpec, Refusal> {
        let mut set = admitted(&[manifest(folder, spec)])?;
        fill(&mut set, &mut Shelf::default(), now)?;
        Ok(artifact(&set[0]).unwrap().clone())
    }

    fn said(refusal: &Refusal) -> Vec<String> {
        refusal.problems.iter().map(ToString::to_string).collect()
    }

    fn folder() -> TempDir {
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("app.jar"), "hello\n").unwrap();
        folder
    }

    const HELLO: &str = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";

    #[test]
    fn the_content_is_filled_in_whatever_was_stated_for_it() {
        let folder = folder();
        let silent = filled(&folder, "{path: ../app.jar}", later()).unwrap();
        assert_eq!(silent.path, folder.path().join("app.jar").display().to_string());
        assert!(silent.address.is_some() && silent.size == Some(2048));
        let stale = format!("{{path: ../app.jar, address: {HELLO}, size: 7}}");
        assert_eq!(filled(&folder, &stale, later()).unwrap(), silent);
    }

    #[test]
    fn a_stated_digest_has_to_match() {
        let folder = folder();
        assert!(filled(&folder, &format!("{{path: ../app.jar, sha256: {HELLO}}}"), later()).is_ok());
        assert!(
            filled(&folder, &format!("{{path: ../app.jar, sha256: {}}}", HELLO.to_uppercase()), later())
                .is_ok()
        );
        let other = HELLO.replace('5', "6");
        let refusal =
            filled(&folder, &format!("{{path: ../app.jar, sha256: {other}}}"), later()).unwrap_err();
        let said = said(&refusal);
        assert!(said[0].starts_with("a/type.yaml:6:40: spec.artifact.sha256: "), "{said:?}");
        assert!(said[0].contains(&format!("app.jar has {HELLO}; ")), "{said:?}");
    }

    #[test]
    fn a_missing_path_is_told_where_it_stands() {
        let folder = folder();
        let refusal = filled(&folder, "{path: ../no.jar}", later()).unwrap_err();
        let said = said(&refusal);
        assert!(said[0].starts_with("a/type.yaml:6:20: spec.artifact.path: "), "{said:?}");
        assert!(said[0].ends_with("no.jar does not exist"), "{said:?}");
    }

    #[test]
    fn what_is_being_written_is_waited_for() {
        let refusal = filled(&folder(), "{path: ../app.jar}", SystemTime::now()).unwrap_err();
        assert!(refusal.again_in.is_some());
        assert!(said(&refusal)[0].contains("app.jar is being written"), "{refusal:?}");
    }

    #[test]
    fn a_program_s_own_yaml_is_no_manifest_and_a_manifest_in_there_is_a_mistake() {
        let folder = folder();
        let app = || manifest(&folder, "{path: ../app}");
        let unreadable =
            Manifest { text: Text::Unreadable("no text".into()), ..file(&folder, "app/data.json", "") };
        let own = [app(), file(&folder, "app/conf/config.yaml", "port: [\n"), unreadable];
        assert_eq!(admitted(&own).unwrap().len(), 1);
        assert!(admitted(&[app(), file(&folder, "application.yaml", "port: 80\n")]).is_err());
        // The folder that holds the manifest itself.
        let problems = admitted(&[manifest(&folder, "{path: .}")]).unwrap_err();
        let said = problems[0].to_string();
        assert!(said.starts_with("a/type.yaml: is a manifest inside of the artifact "), "{said}");
    }
}
