//! The table of routes: each with its handler and its description, given in one call.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::handler::Handler;
use axum::routing::{MethodRouter, delete, get, patch, post, put};
use hyper::Method;

use super::{Described, ErrorForm, Operation};

/// Routes with their descriptions. There is no way to add one without the other.
#[derive(Debug)]
pub struct Routes<S = ()> {
    router: Router<S>,
    operations: Vec<Described>,
    tag: &'static str,
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    /// No routes yet; those that are added are shown in the group `tag`.
    pub fn of(tag: &'static str) -> Self {
        Self { router: Router::new(), operations: Vec::new(), tag }
    }

    /// Those that follow are shown in another group.
    #[must_use]
    pub fn tagged(self, tag: &'static str) -> Self {
        Self { tag, ..self }
    }

    /// Adds a GET, which answers HEAD too.
    #[must_use]
    pub fn get<T: 'static>(self, path: &str, handler: impl Handler<T, S>, operation: Operation) -> Self {
        self.add(Method::GET, path, get(handler), operation)
    }

    /// Adds a POST.
    #[must_use]
    pub fn post<T: 'static>(self, path: &str, handler: impl Handler<T, S>, operation: Operation) -> Self {
        self.add(Method::POST, path, post(handler), operation)
    }

    /// Adds a PUT.
    #[must_use]
    pub fn put<T: 'static>(self, path: &str, handler: impl Handler<T, S>, operation: Operation) -> Self {
        self.add(Method::PUT, path, put(handler), operation)
    }

    /// Adds a PATCH.
    #[must_use]
    pub fn patch<T: 'static>(self, path: &str, handler: impl Handler<T, S>, operation: Operation) -> Self {
        self.add(Method::PATCH, path, patch(handler), operation)
    }

    /// Adds a DELETE.
    #[must_use]
    pub fn delete<T: 'static>(self, path: &str, handler: impl Handler<T, S>, operation: Operation) -> Self {
        self.add(Method::DELETE, path, delete(handler), operation)
    }

    fn add(mut self, method: Method, path: &str, route: MethodRouter<S>, operation: Operation) -> Self {
        self.operations.push(Described { method, path: path.to_owned(), tag: self.tag, operation });
        Self { router: self.router.route(path, route), ..self }
    }

    /// The largest body that the routes so far take, in bytes; also said in their descriptions.
    #[must_use]
    pub fn body_max(mut self, bytes: usize) -> Self {
        for described in &mut self.operations {
            described.operation = described.operation.clone().body_max(bytes);
        }
        self.layered(|router| router.layer(DefaultBodyLimit::max(bytes)))
    }

    /// All of both.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        self.operations.extend(other.operations);
        Self { router: self.router.merge(other.router), ..self }
    }

    /// Changes how requests get to the handlers; for layers and fallbacks, not for routes.
    #[must_use]
    pub fn layered(self, change: impl FnOnce(Router<S>) -> Router<S>) -> Self {
        Self { router: change(self.router), operations: self.operations, tag: self.tag }
    }

    /// All of them below a path, with errors in a form, changed as [`Self::layered`] does it, which then changes nothing outside.
    #[must_use]
    pub fn under(self, prefix: &str, form: ErrorForm, change: impl FnOnce(Router<S>) -> Router<S>) -> Self {
        let below = |described: Described| Described {
            path: format!("{prefix}{}", described.path),
            operation: described.operation.with_errors(form),
            ..described
        };
        let operations = self.operations.into_iter().map(below).collect();
        Self { router: Router::new().nest(prefix, change(self.router)), operations, tag: self.tag }
    }

    /// Gives the handlers what they work with.
    pub fn with_state(self, state: S) -> Routes {
        Routes { router: self.router.with_state(state), operations: self.operations, tag: self.tag }
    }

    /// What is described.
    pub fn operations(&self) -> &[Described] {
        &self.operations
    }

    /// What is routed.
    pub fn into_router(self) -> Router<S> {
        self.router
    }
}
