//! Which pictures a folder holds: the layouts, the splits, and an order that no file system decides.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use sha2::{Digest as _, Sha256};

use crate::{Error, place::Place, shards};

/// Names of picture files end in one of these, in any case; the content decides what they are.
pub(crate) const EXTENSIONS: [&str; 6] = ["jpg", "jpeg", "png", "webp", "bmp", "gif"];

/// An encoded picture: a file, or a sample of a shard.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) place: Place,
    /// Name below the folder of its class or split, parts joined by `/`: the same on every system.
    /// A sample's begins with its shard's.
    pub(crate) name: Vec<u8>,
    /// Size of the file; 0 where only the shard's is known.
    pub(crate) bytes: u64,
    /// Time of the last change, in nanoseconds since 1970; 0 where only the shard's is known.
    pub(crate) modified: u128,
}

/// A file that holds many pictures.
#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) name: Vec<u8>,
    pub(crate) bytes: u64,
    pub(crate) modified: u128,
}

/// Everything found in a folder or in shards.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    /// Sorted by bytes.
    pub(crate) classes: Vec<String>,
    /// Sorted by class, then by name; with the index of the class.
    pub(crate) train: Vec<(File, u32)>,
    pub(crate) val: Vec<(File, u32)>,
    /// In the order of the SHA-256 of the names: names tell classes, so their order would, too.
    pub(crate) unsup: Vec<File>,
    /// The shards, where pictures are no files of their own.
    pub(crate) shards: Vec<Shard>,
    /// Hidden files, and files and folders that are no pictures.
    pub(crate) ignored: usize,
}

/// Lists a folder, or shards: see [`crate::Dataset::open`].
pub(crate) fn find(path: &Path) -> Result<Catalog, Error> {
    if let Some(shards) = shards::find(path)? {
        return shards::scan(&shards);
    }
    match path.metadata() {
        Ok(metadata) if metadata.is_dir() => scan(path),
        Ok(_) => Err(Error::NotAFolder { path: path.to_owned() }),
        Err(error) => Err(Error::from_io(path, error)),
    }
}

/// Time of the last change, in nanoseconds since 1970; 0 if the system does not tell.
pub(crate) fn modified(metadata: &fs::Metadata) -> u128 {
    let since =
        metadata.modified().ok().and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    since.map_or(0, |since| since.as_nanos())
}

/// Lists a folder in one of the layouts that [`crate::Dataset::open`] documents.
fn scan(root: &Path) -> Result<Catalog, Error> {
    let mut catalog = Catalog::default();
    let Listing { folders, pictures, others } = list(root)?;
    let path_of = |name: &str| {
        if let Some(file) = others.iter().find(|file| file.file_name() == Some(name.as_ref())) {
            return Err(Error::NotAFolder { path: file.clone() });
        }
        Ok(folders.iter().find(|(folder, _)| folder == name.as_bytes()).map(|(_, path)| path))
    };
    let splits = [path_of("train")?, path_of("val")?, path_of("unsup")?];
    match splits {
        [None, None, None] if folders.is_empty() => {
            if pictures.is_empty() {
                return Err(Error::Empty { path: root.to_owned() });
            }
            catalog.ignored = others.len();
            catalog.unsup = pictures;
        }
        [None, None, None] => scan_train(root, &mut catalog)?,
        [None, Some(_), _] => return Err(Error::NoTrain { path: root.to_owned() }),
        [train, val, unsup] => {
            let splits = splits.iter().flatten().count();
            catalog.ignored = others.len() + pictures.len() + folders.len() - splits;
            if let Some(train) = train {
                scan_train(train, &mut catalog)?;
            }
            if let Some(val) = val {
                scan_val(val, &mut catalog)?;
            }
            if let Some(unsup) = unsup {
                catalog.unsup = walk(unsup, &mut catalog.ignored)?;
                if catalog.unsup.is_empty() {
                    return Err(Error::Empty { path: unsup.clone() });
                }
            }
        }
    }
    catalog.unsup.sort_by_cached_key(|file| hash(&file.name));
    Ok(catalog)
}

/// SHA-256 of a name, in hexadecimal digits.
pub(crate) fn hash(name: &[u8]) -> String {
    hex(&Sha256::digest(name))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn scan_train(folder: &Path, catalog: &mut Catalog) -> Result<(), Error> {
    for (class, path) in class_folders(folder, &mut catalog.ignored)? {
        let label = catalog.classes.len() as u32;
        let files = walk(&path, &mut catalog.ignored)?;
        if files.is_empty() {
            return Err(Error::EmptyClass { path: folder.to_owned(), class });
        }
        catalog.train.extend(files.into_iter().map(|file| (file, label)));
        catalog.classes.push(class);
    }
    Ok(())
}

fn scan_val(folder: &Path, catalog: &mut Catalog) -> Result<(), Error> {
    for (class, path) in class_folders(folder, &mut catalog.ignored)? {
        let Ok(label) = catalog.classes.binary_search(&class) else {
            return Err(Error::UnknownClass { path, class });
        };
        let files = walk(&path, &mut catalog.ignored)?;
        catalog.val.extend(files.into_iter().map(|file| (file, label as u32)));
    }
    if catalog.val.is_empty() {
        return Err(Error::Empty { path: folder.to_owned() });
    }
    Ok(())
}

/// The class folders of a split, sorted by name.
fn class_folders(folder: &Path, ignored: &mut usize) -> Result<Vec<(String, PathBuf)>, Error> {
    let Listing { folders, mut pictures, others } = list(folder)?;
    *ignored += others.len();
    if !pictures.is_empty() {
        pictures.sort_by(|a, b| a.name.cmp(&b.name));
        let name = String::from_utf8_lossy(&pictures[0].name).into_owned();
        return Err(Error::LoosePicture { path: folder.join(name) });
    }
    if folders.is_empty() {
        return Err(Error::Empty { path: folder.to_owned() });
    }
    let named = folders.into_iter().map(|(name, path)| match String::from_utf8(name) {
        Ok(name) => Ok((name, path)),
        Err(_) => Err(Error::NotUtf8 { path }),
    });
    named.collect()
}

/// All pictures in a folder and the folders below it, sorted by name.
fn walk(folder: &Path, ignored: &mut usize) -> Result<Vec<File>, Error> {
    let mut files = Vec::new();
    let place = fs::canonicalize(folder).map_err(|error| Error::from_io(folder, error))?;
    let mut above = place.ancestors().skip(1).map(Path::to_owned).collect();
    walk_into(folder, b"", &mut above, &mut files, ignored)?;
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

fn walk_into(
    folder: &Path,
    prefix: &[u8],
    above: &mut Vec<PathBuf>,
    files: &mut Vec<File>,
    ignored: &mut usize,
) -> Result<(), Error> {
    let place = fs::canonicalize(folder).map_err(|error| Error::from_io(folder, error))?;
    if above.contains(&place) {
        return Err(Error::LinkLoop { path: folder.to_owned() });
    }
    above.push(place);
    let Listing { folders, pictures, others } = list(folder)?;
    *ignored += others.len();
    files.extend(pictures.into_iter().map(|mut file| {
        file.name = [prefix, &file.name].concat();
        file
    }));
    for (name, path) in folders {
        walk_into(&path, &[prefix, &name, b"/"].concat(), above, files, ignored)?;
    }
    above.pop();
    Ok(())
}

/// What lies directly in a folder; folders are sorted by name, and links are followed.
struct Listing {
    folders: Vec<(Vec<u8>, PathBuf)>,
    pictures: Vec<File>,
    others: Vec<PathBuf>,
}

fn list(folder: &Path) -> Result<Listing, Error> {
    let failed = |error: io::Error| Error::from_io(folder, error);
    let mut listing = Listing { folders: Vec::new(), pictures: Vec::new(), others: Vec::new() };
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        let name = entry.file_name().as_encoded_bytes().to_vec();
        // A link to nowhere has no metadata. It stays listed if it has the name of a picture, so
        // that reading it names it, as any other damaged file.
        let metadata = fs::metadata(&path).ok();
        if name.starts_with(b".") {
            listing.others.push(path);
        } else if metadata.as_ref().is_some_and(fs::Metadata::is_dir) {
            listing.folders.push((name, path));
        } else if is_picture(&path) {
            let (bytes, modified) =
                metadata.map_or((0, 0), |metadata| (metadata.len(), modified(&metadata)));
            listing.pictures.push(File { place: Place::File(path), name, bytes, modified });
        } else {
            listing.others.push(path);
        }
    }
    listing.folders.sort();
    Ok(listing)
}

/// Whether a file is named as pictures are.
pub(crate) fn is_picture(path: &Path) -> bool {
    path.extension().and_then(|extension| extension.to_str()).is_some_and(|extension| {
        EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_known_by_their_extension() {
        for name in ["a.jpg", "a.JPEG", "a.b.Png", "x.webp", "x.BMP", "x.gif"] {
            assert!(is_picture(Path::new(name)), "{name}");
        }
        for name in ["jpg", "a.txt", "a.jpg.part", "a.tiff", ".jpg"] {
            assert!(!is_picture(Path::new(name)), "{name}");
        }
    }

    #[test]
    fn hashes_are_sha256() {
        let expected = "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9";
        assert_eq!(hash(b"hello world"), expected);
    }
}
