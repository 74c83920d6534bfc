//! What the catalog promises, on every engine that it runs on: each test is a promise, and is given
//! an empty catalog.
//!
//! Another engine is a function here that makes one, and a line `conformance!(that_function);`.

mod audit;
mod escrow;
mod handovers;
pub(super) mod images;
mod jobs;
mod leases;
mod people;
mod retention;
mod rewraps;
mod roles;
mod servers;
mod staged;
mod suppliers;
pub(super) mod uploads;
mod vehicles;

#[path = "../../../tests/support/script.rs"]
mod script;
#[path = "../../../tests/support/postgres.rs"]
pub(super) mod server;

use tempfile::TempDir;

use super::{Author, Catalog};
use crate::model::{Sha256Digest, Timestamp};
use server::Postgres;

/// An empty catalog, and what it lives in.
struct Empty {
    catalog: Catalog,
    _folder: Option<TempDir>,
}

/// On SQLite, in a file of its own.
async fn sqlite() -> Empty {
    let folder = tempfile::tempdir().unwrap();
    let catalog = Catalog::own_sqlite(&folder.path().join("catalog.sqlite"), now()).await.unwrap();
    Empty { catalog, _folder: Some(folder) }
}

/// On PostgreSQL, in a database of its own whose own order of texts is that of a dictionary.
async fn postgres() -> Empty {
    let url = Postgres::shared().database_with("LOCALE_PROVIDER icu ICU_LOCALE 'en-US'");
    let catalog = Catalog::own_postgres(&url.parse().unwrap(), now()).await.unwrap();
    Empty { catalog, _folder: None }
}

/// The same by way of pgbouncer, which keeps no sessions.
async fn pgbouncer() -> Empty {
    let server = Postgres::shared();
    let url = server.pooled(&server.database());
    let catalog = Catalog::own_postgres(&url.parse().unwrap(), now()).await.unwrap();
    Empty { catalog, _folder: None }
}

macro_rules! conformance {
    ($engine:ident) => {
        mod $engine {
            conformance!(
                $engine, images: accepts_images_with_all_of_their_targets_or_none,
                a_path_is_used_once_even_after_a_yank, a_yank_takes_both_targets_out_and_happens_once,
                a_full_role_accepts_none_of_them, an_accepted_image_ends_the_announcement_of_its_blobs,
                a_server_takes_its_own_blobs_and_those_that_nobody_holds,
                a_blob_is_removed_by_whom_it_belongs_to_and_unlisted,
                an_image_whose_blobs_were_taken_is_not_accepted,
                an_image_for_a_key_that_was_retired_meanwhile_is_not_accepted, pages_follow_each_other_in_the_order_of_paths
            );
            conformance!(
                $engine, roles: no_version_is_handed_out_twice, numbers_that_were_handed_out_before_are_refused,
                numbers_are_left_out_before_the_first_alone_and_not_past_what_clients_count_to, a_publication_that_was_overtaken_changes_nothing,
                changes_after_a_reservation_still_wait, roots_follow_each_other_without_a_gap,
                what_was_signed_upon_something_older_is_not_published,
                skipped_versions_are_above_all_that_were_seen, the_first_value_of_an_installation_stays,
                a_director_root_is_recorded_once,
                lost_keys_are_written_down_by_role_and_in_the_audit_log
            );
            conformance!($engine, retention: a_yanked_image_is_collected_once_unless_it_is_to_be_kept,
                a_backup_forgets_the_marks_of_those_that_were_cut_off);
            conformance!($engine, handovers: a_role_is_handed_over_once_at_a_time);
            conformance!(
                $engine, escrow: an_escrow_key_comes_and_goes_once, of_two_rotations_at_once_one_is_refused,
                the_first_note_of_the_escrow_key_stays, what_is_wrapped_to_another_escrow_key_is_not_recorded
            );
            conformance!(
                $engine, staged: a_revision_is_never_used_twice, a_signature_is_kept_once_and_for_its_revision_alone,
                a_published_root_ends_its_staging_or_is_not_recorded
            );
            conformance!(
                $engine, suppliers: a_folder_has_one_supplier_and_a_name_is_used_once,
                a_removed_supplier_leaves_the_last_file_of_its_role,
                a_supplier_s_own_keys_make_nothing_due_and_drop_what_is_staged
            );
            conformance!(
                $engine, people: a_token_is_found_by_its_digest_and_revoked_once,
                a_recipient_is_registered_once_for_a_hardware_id,
                a_recipient_is_removed_from_one_hardware_id_or_from_all
            );
            conformance!(
                $engine, rewraps: a_walk_finds_each_envelope_of_a_key_once_and_yanked_ones_last,
                a_batch_is_recorded_but_for_what_others_have_changed,
                a_batch_whose_blobs_were_taken_is_not_recorded,
                a_replaced_envelope_is_superseded_once_its_successor_is_published,
                a_key_has_one_successor_unless_that_is_taken_back,
                revoked_keys_are_listed_with_the_images_that_are_left
            );
            conformance!(
                $engine, audit: entries_that_are_written_at_once_make_one_chain,
                a_change_that_does_not_happen_leaves_no_entry, a_log_is_listed_by_every_filter,
                what_is_noted_again_and_the_same_is_no_entry
            );
            conformance!(
                $engine, jobs: a_job_is_taken_by_one_of_many, a_job_is_taken_over_when_its_lease_has_ended,
                a_run_that_has_lost_its_job_changes_nothing, a_server_gets_its_own_jobs_back_at_once,
                a_cancelled_job_ends_at_once_if_it_waits_and_soon_if_it_runs,
                jobs_that_do_the_same_are_one_until_it_ends, a_job_that_gets_on_has_not_stalled,
                a_sole_job_is_made_beside_none_of_its_kind_for_the_same
            );
            conformance!(
                $engine, leases: a_lease_is_one_server_s_until_it_lets_go_or_time_is_over,
                a_server_that_starts_again_lets_go_of_what_it_had,
                a_lease_by_a_clock_that_had_jumped_is_over,
                jobs_and_uploads_of_a_clock_that_had_jumped_are_free,
                blobs_that_a_clock_that_had_jumped_announced_are_abandoned
            );
            conformance!(
                $engine, servers: servers_that_share_their_blobs_are_beside_each_other,
                a_server_with_blobs_of_its_own_is_alone, of_one_id_there_is_one_server
            );
            conformance!(
                $engine, uploads: an_upload_is_taken_by_one_and_a_run_that_has_lost_it_changes_nothing,
                an_upload_that_has_ended_keeps_no_key, an_upload_expires_unless_somebody_has_it,
                an_open_upload_is_found_by_what_it_began_with,
                the_uploads_of_a_token_that_is_no_longer_good_expire,
                of_one_token_so_many_uploads_that_have_ended_are_known,
                uploads_end_once_with_a_move_of_what_is_kept_of_them
            );
            conformance!(
                $engine, vehicles: the_first_registration_of_an_id_or_a_serial_stands,
                thousands_are_registered_together_as_each_would_be,
                a_removed_vehicle_gives_its_number_to_nobody,
                a_status_changes_only_from_the_revision_on_which_it_was_decided, a_change_is_read_as_it_was_made,
                a_quarantine_is_in_the_audit_log_once, events_that_are_alike_are_counted_as_one,
                an_approval_is_used_once_and_in_time, a_token_is_one_vehicles,
                an_ecu_key_is_changed_once_in_time_and_to_the_key_that_was_approved,
                vehicles_are_found_by_a_part_of_a_key
            );
        }
    };
    ($engine:ident, $file:ident: $($promise:ident),+) => {
        mod $file {
            $(
                #[tokio::test]
                async fn $promise() {
                    let empty = super::super::$engine().await;
                    super::super::$file::$promise(&empty.catalog).await;
                }
            )+
        }
    };
}

conformance!(sqlite);
conformance!(postgres);
conformance!(pgbouncer);

/// A time; tests that need others count from it.
fn now() -> Timestamp {
    "2026-11-26T06:00:00Z".parse().unwrap()
}

fn seconds_later(seconds: u64) -> Timestamp {
    crate::model::clock::later(now(), std::time::Duration::from_secs(seconds))
}

fn author() -> Author {
    Author::server(now())
}

fn digest(byte: u8) -> Sha256Digest {
    Sha256Digest::from_bytes([byte; 32])
}
