//! What may be staged, by whom, and what becomes of signatures.

use std::fs;

use motorcade::app::Error;
use motorcade::app::access::Principal;
use motorcade::app::audit::AuditFilter;
use motorcade::app::ceremony::{Gap, Offer, OfferedSignature, StageRequest};
use motorcade::app::images::precondition::{Precondition, Tags};
use motorcade::app::suppliers::NewSupplier;
use motorcade::model::{AuditKind, RepositorySide, RoleName, Sha256Digest};
use serde_json::Value;

use super::{Officer, image_change, officer};
use crate::publication::{NEVER, Node};
use crate::state::{TestState, key_file};

const IMAGE: RepositorySide = RepositorySide::Image;

fn revision(tag: impl Into<String>) -> Precondition {
    Precondition { matches: Some(Tags::Of(vec![tag.into()])), matches_none: None }
}

fn code(error: &Error) -> &'static str {
    match error {
        Error::Invalid { code, .. }
        | Error::NotFound { code, .. }
        | Error::Conflict { code, .. }
        | Error::Unprocessable { code, .. } => code,
        Error::Refused { problems } => problems[0].code,
        Error::Unexpected { .. } => "precondition_failed",
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn two_officers_at_once_make_one_staging() {
    let node = Node::open(TestState::new(), NEVER).await;
    let ceremony = node.app.ceremony();
    let (anna, bert) = (Officer::new(), Officer::new());
    let anna_s = image_change(RoleName::Root, None, &[&anna], &[]);
    let bert_s = image_change(RoleName::Root, None, &[&bert], &[]);
    let (nothing, by) = (Precondition::default(), officer());
    let (first, second) = tokio::join!(
        ceremony.stage(IMAGE, &anna_s, &nothing, &by),
        ceremony.stage(IMAGE, &bert_s, &nothing, &by)
    );
    let (won, lost) = match (first, second) {
        (Ok(won), Err(lost)) | (Err(lost), Ok(won)) => (won.staged.unwrap(), lost),
        other => panic!("{other:?}"),
    };
    assert_eq!(code(&lost), "precondition_failed");
    let told = lost.to_string();
    assert!(told.contains(&format!("revision {}, by officer", won.staging.tag())), "{told}");
    let replaced = ceremony.stage(IMAGE, &bert_s, &revision(won.staging.tag()), &by).await.unwrap();
    let replaced = replaced.staged.unwrap();
    for error in [
        ceremony.stage(IMAGE, &anna_s, &revision(won.staging.tag()), &by).await.unwrap_err(),
        ceremony.publish(IMAGE, Gap::Refused, &revision(won.staging.tag()), &by).await.unwrap_err(),
        ceremony.cancel(IMAGE, &revision(won.staging.tag()), &by).await.unwrap_err(),
    ] {
        assert_eq!(code(&error), "precondition_failed", "{error}");
        assert!(
            error.to_string().contains(&format!("revision {}", replaced.staging.tag())),
            "{error}"
        );
    }
    ceremony.cancel(IMAGE, &revision(replaced.staging.tag()), &by).await.unwrap();
    let nothing_left = ceremony.cancel(IMAGE, &nothing, &by).await.unwrap_err();
    assert_eq!(code(&nothing_left), "nothing_staged");
    node.close().await.assert_clean().await;
}

#[tokio::test]
async fn signatures_are_refused_by_name_and_the_good_ones_kept() {
    let node = Node::open(TestState::new(), NEVER).await;
    let ceremony = node.app.ceremony();
    let (anna, bert, stranger) = (Officer::new(), Officer::new(), Officer::new());
    let (anyone, by) = (Precondition::default(), officer());
    let change = image_change(RoleName::Root, Some(2), &[&anna, &bert], &[]);
    let staged = ceremony.stage(IMAGE, &change, &anyone, &by).await.unwrap().staged.unwrap();
    assert_eq!(staged.missing(), (1, 2));
    let forged =
        OfferedSignature { signature: stranger.sign(&staged).signature, ..bert.sign(&staged) };
    let garbled = OfferedSignature { signature: "not hex".into(), ..bert.sign(&staged) };
    let signatures =
        vec![stranger.sign(&staged), forged, anna.sign(&staged), garbled, anna.sign(&staged)];
    let offer = Offer { payload: Some(staged.payload), signatures };
    let Err(Error::Refused { problems }) = ceremony.sign(IMAGE, &offer, &anyone, &by).await else {
        panic!("three are bad")
    };
    let found: Vec<&str> = problems.iter().map(|problem| problem.code).collect();
    assert_eq!(found, ["unknown_key", "bad_signature", "bad_signature", "already_signed"]);
    assert!(problems[0].detail.contains(&stranger.id().to_string()));
    assert!(problems[3].detail.contains("1 of 5 signatures were kept"), "{problems:?}");
    let kept = ceremony.state(IMAGE).await.unwrap().staged.unwrap();
    assert_eq!(kept.staging.signers(), [anna.id()].into());
    assert_eq!(kept.missing(), (1, 1));

    let refused = async |key: &Officer| {
        let filter =
            AuditFilter { kind: Some(AuditKind::SignatureRefused), ..AuditFilter::default() };
        let log = node.app.audit().list(&filter, i64::MAX, 100).await.unwrap().items;
        let details = log.iter().map(|entry| serde_json::from_str::<Value>(&entry.detail).unwrap());
        let own = details.filter(|detail| detail["key_id"] == key.id().to_string());
        own.map(|detail| detail["reason"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(refused(&stranger).await, ["unknown_key"]);
    assert_eq!(refused(&bert).await, ["bad_signature", "bad_signature"]);
    assert_eq!(refused(&anna).await, ["already_signed"]);

    let of_another = Offer { payload: Some(Sha256Digest::from_bytes([0; 32])), ..offer };
    let wrong = ceremony.sign(IMAGE, &of_another, &anyone, &by).await.unwrap_err();
    assert_eq!(code(&wrong), "wrong_payload");
    assert_eq!(refused(&stranger).await, ["wrong_payload", "unknown_key"]);
    node.close().await.assert_clean().await;
}

/// Who names no revision means what he has staged himself.
#[tokio::test]
async fn nobody_drops_or_signs_what_another_officer_has_staged_without_naming_it() {
    let node = Node::open(TestState::new(), NEVER).await;
    let ceremony = node.app.ceremony();
    let (anyone, anna) = (Precondition::default(), officer());
    let bert = Principal { id: "another".into(), ..officer() };
    let change = StageRequest { expires_days: Some(300), roles: Vec::new() };
    let staged = ceremony.stage(IMAGE, &change, &anyone, &anna).await.unwrap().staged.unwrap();
    for refused in [
        ceremony.cancel(IMAGE, &anyone, &bert).await.unwrap_err(),
        ceremony.sign_here(IMAGE, &anyone, &bert).await.map(drop).unwrap_err(),
    ] {
        assert_eq!(code(&refused), "precondition_failed");
        let told = refused.to_string();
        assert!(told.contains(&format!("--revision {}", staged.staging.tag())), "{told}");
    }
    let kept = ceremony.state(IMAGE).await.unwrap().staged.unwrap();
    assert_eq!((kept.revision(), kept.staging.signers()), (staged.revision(), [].into()));
    ceremony.sign_here(IMAGE, &revision(staged.staging.tag()), &bert).await.unwrap();
    ceremony.cancel(IMAGE, &revision(staged.staging.tag()), &bert).await.unwrap();
    ceremony.stage(IMAGE, &change, &anyone, &anna).await.unwrap();
    ceremony.sign_here(IMAGE, &anyone, &anna).await.unwrap();
    ceremony.cancel(IMAGE, &anyone, &anna).await.unwrap();
    node.close().await.assert_clean().await;
}

#[tokio::test]
async fn what_could_not_be_signed_or_has_another_use_is_not_staged() {
    let node = Node::open(TestState::new(), NEVER).await;
    let ceremony = node.app.ceremony();
    let (anyone, by) = (Precondition::default(), officer());
    let stage = async |request: &StageRequest| {
        code(&ceremony.stage(IMAGE, request, &anyone, &by).await.unwrap_err())
    };
    let of_file = |name: &str| {
        Officer::with(&fs::read_to_string(node.state.path().join("keys").join(name)).unwrap())
    };
    let (anna, timestamp, bins, director) = (
        Officer::new(),
        of_file("timestamp.pem"),
        of_file("bins.pem"),
        of_file("director-targets.pem"),
    );
    let root = |threshold, add: &[&Officer], remove: &[_]| {
        image_change(RoleName::Root, threshold, add, remove)
    };
    assert_eq!(stage(&root(Some(0), &[], &[])).await, "threshold_zero");
    assert_eq!(stage(&root(Some(2), &[], &[])).await, "threshold_not_possible");
    assert_eq!(stage(&root(None, &[], &[anna.id()])).await, "key_not_in_role");
    assert_eq!(stage(&root(None, &[&anna, &anna], &[])).await, "key_shared");
    assert_eq!(stage(&root(None, &[&timestamp], &[])).await, "key_shared");
    assert_eq!(stage(&root(None, &[&bins], &[])).await, "key_in_use");
    assert_eq!(stage(&root(None, &[&director], &[])).await, "key_in_use");
    let bin = image_change("bin-0".parse().unwrap(), None, &[&anna], &[]);
    assert_eq!(stage(&bin).await, "no_such_role");
    let mut recipient = root(None, &[], &[]);
    recipient.roles[0].add = vec![key_file("snakeoil_p256.pub.pem")];
    assert_eq!(stage(&recipient).await, "key_in_use");
    let supplier = NewSupplier {
        name: "acme".parse().unwrap(),
        folder: None,
        hardware_ids: Vec::new(),
        threshold: None,
        keys: None,
        public_keys: Vec::new(),
        terminating: true,
    };
    node.app.suppliers().add(supplier, &by).await.unwrap();
    let mut files = fs::read_dir(node.state.path().join("keys")).unwrap();
    let file = files.find_map(|file| {
        file.unwrap()
            .file_name()
            .into_string()
            .ok()
            .filter(|name| name.starts_with("supplier-acme"))
    });
    let supplier = of_file(&file.unwrap());
    let of_supplier = image_change(RoleName::Targets, None, &[&supplier], &[]);
    assert_eq!(stage(&of_supplier).await, "key_in_use");
    recipient.roles[0].add = vec![key_file("snakeoil_p256.pem")];
    assert_eq!(stage(&recipient).await, "key_refused");
    let never = StageRequest { expires_days: Some(0), roles: Vec::new() };
    assert_eq!(stage(&never).await, "bad_expiry");
    assert!(ceremony.state(IMAGE).await.unwrap().staged.is_none());
    node.close().await.assert_clean().await;
}
