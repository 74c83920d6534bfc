//! A copy of a SQLite catalog that others use meanwhile.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::{Catalog, During, Error};

impl Catalog {
    /// Writes what is committed when the copy begins to the new file `copy`, for its owner alone,
    /// while others read and write. The copy has no log beside it; whoever asks has to sync it.
    ///
    /// As long as it takes, the write-ahead log grows by what is written.
    ///
    /// # Errors
    ///
    /// [`Error::Unusable`] if the file can't be made; [`Error::Full`]; [`Error::Backend`].
    pub async fn copy_to(&self, copy: &Path) -> Result<(), Error> {
        let unusable =
            |fault: String| Error::Unusable { catalog: copy.display().to_string(), fault };
        // SQLite would make it for all to read, and takes one that is empty.
        let made = File::options().create_new(true).write(true).mode(0o600).open(copy);
        made.map_err(|source| unusable(format!("can't be made: {source}")))?;
        let path = std::path::absolute(copy).ok();
        let path = path.as_deref().and_then(Path::to_str);
        let path = path.ok_or_else(|| unusable("has a path that is not UTF-8".into()))?;
        // Of one moment, as a transaction that reads sees it, and without what was deleted.
        let copied =
            sqlx::query("VACUUM INTO $1").bind(path).execute(self.pool.connections()).await;
        copied.map(drop).during("copy the catalog")
    }
}
