//! The attacks themselves, a function for each row of the matrix.

mod bundles;
mod delegations;
mod encodings;
mod freeze;
mod images;
mod rollback;
mod roots;
mod signatures;
mod stolen;
mod transport;

use super::attack::Attack;
use super::world::Lab;

/// Makes the attacks of one row.
pub(crate) type MakeRow = fn(&Lab) -> Vec<Attack>;

/// Every row that files, and a server that misbehaves, can stage.
pub(crate) const ROWS: &[(&str, MakeRow)] = &[
    ("AT-2", images::at_2),
    ("AT-3", images::at_3),
    ("AT-5", transport::at_5),
    ("AT-6", freeze::at_6),
    ("AT-7", freeze::at_7),
    ("AT-8", freeze::at_8),
    ("AT-9", bundles::at_9),
    ("AT-10", bundles::at_10),
    ("AT-11", bundles::at_11),
    ("AT-13", rollback::at_13),
    ("AT-14", rollback::at_14),
    ("AT-15", rollback::at_15),
    ("AT-16", transport::at_16),
    ("AT-17", delegations::at_17),
    ("AT-18", rollback::at_18),
    ("AT-19", bundles::at_19),
    ("AT-21", signatures::at_21),
    ("AT-22", stolen::at_22),
    ("AT-23", stolen::at_23),
    ("AT-24", stolen::at_24),
    ("AT-25", stolen::at_25),
    ("AT-26", signatures::at_26),
    ("AT-27", signatures::at_27),
    ("AT-28", signatures::at_28),
    ("AT-29", roots::at_29),
    ("AT-30", roots::at_30),
    ("AT-31", rollback::at_31),
    ("AT-32", encodings::at_32),
    ("AT-33", signatures::at_33),
    ("AT-34", bundles::at_34),
    ("AT-35", bundles::at_35),
    ("AT-36", images::at_36),
    ("AT-37", images::at_37),
    ("AT-38", bundles::at_38),
    ("AT-39", freeze::at_39),
    ("AT-40", encodings::at_40),
    ("AT-46", delegations::at_46),
    ("AT-47", delegations::at_47),
    ("AT-48", delegations::at_48),
    ("AT-49", encodings::at_49),
];

/// The attacks of one row.
pub(crate) fn row(id: &str, lab: &Lab) -> Vec<Attack> {
    let (_, make) =
        ROWS.iter().find(|(row, _)| *row == id).unwrap_or_else(|| panic!("there is no row {id}"));
    make(lab)
}
