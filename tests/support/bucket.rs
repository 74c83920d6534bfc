//! A bucket of the object store, for an installation of several servers.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use super::object_store::ObjectStore;

/// A new bucket, of which blobs take a part.
pub(crate) struct Bucket {
    pub(crate) store: &'static ObjectStore,
    pub(crate) name: String,
}

/// Variables and their values.
pub(crate) struct Environment(Vec<(&'static str, String)>);

impl Environment {
    pub(crate) fn each(&self) -> Vec<(&str, &str)> {
        self.0.iter().map(|(name, value)| (*name, value.as_str())).collect()
    }
}

impl Bucket {
    pub(crate) async fn new() -> Self {
        let store = ObjectStore::shared();
        Self { store, name: store.bucket().await }
    }

    /// What a server has in its environment to keep its blobs there.
    pub(crate) fn environment(&self) -> Environment {
        let own = ("MOTORCADE_BLOBS", format!("s3://{}/ota", self.name));
        let store = self.store.environment().map(|(name, value)| (name, value.to_owned()));
        Environment(store.into_iter().chain([own]).collect())
    }

    /// Names below the prefix that are served, and everything else but whose bucket it is.
    pub(crate) async fn names(&self) -> (Vec<String>, Vec<String>) {
        let (keys, uploads) = self.store.content(&self.name).await;
        let names = keys.iter().map(|key| key.strip_prefix("ota/").unwrap().to_owned());
        let (own, names): (Vec<_>, Vec<_>) =
            names.partition(|name: &String| name.starts_with(".motorcade/"));
        let left = own.into_iter().filter(|name| name != ".motorcade/installation.json");
        (names, left.chain(uploads).collect())
    }

    pub(crate) async fn read(&self, name: &str) -> Vec<u8> {
        let get = self.store.client().get_object().bucket(&self.name).key(format!("ota/{name}"));
        let got = get.send().await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        got.body.collect().await.expect("it comes whole").to_vec()
    }
}
