//! Who may make a call, read off the types of its handler's arguments.

use actix_web::{HttpRequest, web};

use super::auth::{Access, Permission};
use super::identity::FromVehicle;
use crate::model::AccessRole;

/// Who may make a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Callers {
    /// Everybody, as far as routing can say: a handler can look closer.
    Anyone,
    /// A vehicle, for itself.
    Vehicles,
    /// Who has a token with one of these roles.
    Roles(&'static [AccessRole]),
}

/// What a handler takes from a request.
pub(super) trait Argument {
    /// Whom it lets through.
    const CALLERS: Callers = Callers::Anyone;
}

impl<P: Permission, T> Argument for Access<P, T> {
    const CALLERS: Callers = Callers::Roles(P::ROLES);
}

impl Argument for FromVehicle {
    const CALLERS: Callers = Callers::Vehicles;
}

impl<T: ?Sized> Argument for web::Data<T> {}
impl Argument for web::Payload {}
impl Argument for HttpRequest {}

/// All that a handler takes.
pub(super) trait Arguments {
    /// Whom they let through together.
    const CALLERS: Callers;
}

impl Arguments for () {
    const CALLERS: Callers = Callers::Anyone;
}

macro_rules! arguments {
    ($first:ident $($more:ident)*) => {
        impl<$first: Argument, $($more: Argument),*> Arguments for ($first, $($more,)*) {
            const CALLERS: Callers =
                both($first::CALLERS, <($($more,)*) as Arguments>::CALLERS);
        }
    };
}

arguments!(A);
arguments!(A B);
arguments!(A B C);
arguments!(A B C D);
arguments!(A B C D E);

/// No handler has two arguments that ask who is calling.
const fn both(one: Callers, other: Callers) -> Callers {
    match (one, other) {
        (Callers::Anyone, other) => other,
        (one, Callers::Anyone) => one,
        _ => panic!("a handler asks twice who is calling"),
    }
}
