//! Extracts the ids that a path names. A malformed id is answered as one that does not exist: 404, in the dialect's
//! own form.

use std::{marker::PhantomData, str::FromStr};

use axum::{
    extract::{FromRequestParts, RawPathParams},
    http::request::Parts,
    response::IntoResponse,
};
use protocol::{
    error::Error,
    id::{MessageId, RoomId, TeamId, UserId},
};
use schemars::JsonSchema;

use crate::{
    documents::{DocumentedInput, OperationBuilder},
    state::ApiState,
};

/// The ids of a path in their order: one id, or a pair. `R` is the dialect's rejection.
pub(crate) struct PathIds<T, R>(pub(crate) T, pub(crate) PhantomData<R>);

/// An id, or a pair of ids, as the segments of a path.
pub(crate) trait PathSegments: Sized {
    /// Reads them from the values of the path's parameters; `None` if one is malformed.
    fn parse(values: &[&str]) -> Option<Self>;

    /// Describes the parameters.
    fn describe(operation: &mut OperationBuilder<'_>);
}

/// One parameter of a path.
pub(crate) trait PathId: FromStr + JsonSchema {}

macro_rules! path_ids {
    ($($id:ty),*) => {$(
        impl PathId for $id {}

        impl PathSegments for $id {
            fn parse(values: &[&str]) -> Option<Self> {
                let [value] = values else { return None };
                value.parse().ok()
            }

            fn describe(operation: &mut OperationBuilder<'_>) {
                operation.path_parameter::<Self>();
            }
        }
    )*};
}

path_ids!(MessageId, RoomId, String, TeamId, UserId);

impl<A: PathId, B: PathId> PathSegments for (A, B) {
    fn parse(values: &[&str]) -> Option<Self> {
        let [first, second] = values else { return None };
        Some((first.parse().ok()?, second.parse().ok()?))
    }

    fn describe(operation: &mut OperationBuilder<'_>) {
        operation.path_parameter::<A>();
        operation.path_parameter::<B>();
    }
}

impl<T: PathSegments, R: From<Error> + IntoResponse> FromRequestParts<ApiState> for PathIds<T, R> {
    type Rejection = R;

    async fn from_request_parts(parts: &mut Parts, api: &ApiState) -> Result<Self, R> {
        let values = RawPathParams::from_request_parts(parts, api).await.map_err(|_| Error::not_found())?;
        let values: Vec<&str> = values.iter().map(|(_, value)| value).collect();
        let ids = T::parse(&values).ok_or_else(Error::not_found)?;
        Ok(Self(ids, PhantomData))
    }
}

impl<T: PathSegments, R> DocumentedInput for PathIds<T, R> {
    fn describe(operation: &mut OperationBuilder<'_>) {
        T::describe(operation);
    }
}
