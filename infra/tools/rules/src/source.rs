//! The modules of a crate, and the paths that each of them names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{Attribute, Expr, Item, ItemMod, ItemUse, Lit, Meta, UseTree};

/// `crate::a::b` is `["a", "b"]`; the crate itself is empty.
pub(crate) type Names = Vec<String>;

/// A module, inline or in its own file.
#[derive(Debug, Default)]
pub(crate) struct Module {
    /// The file that contains it, relative to `src`.
    pub(crate) file: String,
    /// The items that it defines itself.
    pub(crate) defines: BTreeSet<String>,
    /// The paths that it imports or re-exports, by the name they get.
    pub(crate) imports: BTreeMap<String, Names>,
    /// The paths whose content it imports or re-exports with a glob.
    pub(crate) globs: Vec<Names>,
    /// Every path inside the crate that it names.
    pub(crate) paths: Vec<Names>,
}

pub(crate) type Modules = BTreeMap<Names, Module>;

pub(crate) fn read(src: &Path) -> Result<Modules, String> {
    let root = ["lib.rs", "main.rs"].map(|name| src.join(name));
    let root = root.iter().find(|file| file.is_file());
    let root = root.ok_or_else(|| format!("no lib.rs and no main.rs in {}", src.display()))?;
    let mut modules = Modules::new();
    let children = src.to_owned();
    file(src, root, &children, Names::new(), &mut modules)?;
    Ok(modules)
}

/// Reads the module `name` from `path`. The files of its child modules are in `children`.
fn file(
    src: &Path,
    path: &Path,
    children: &Path,
    name: Names,
    modules: &mut Modules,
) -> Result<(), String> {
    let text = std::fs::read_to_string(path).map_err(|why| format!("{}: {why}", path.display()))?;
    let parsed = syn::parse_file(&text).map_err(|why| format!("{}: {why}", path.display()))?;
    let below = path.strip_prefix(src).unwrap_or(path);
    let here = Here {
        src,
        file: below.display().to_string(),
        folder: path.parent().unwrap_or(src),
    };
    items(&here, &parsed.items, children, name, modules)
}

/// The file that is being read.
struct Here<'a> {
    src: &'a Path,
    file: String,
    folder: &'a Path,
}

fn items(
    here: &Here<'_>,
    items: &[Item],
    children: &Path,
    name: Names,
    modules: &mut Modules,
) -> Result<(), String> {
    let items: Vec<&Item> = items
        .iter()
        .filter(|item| !is_test(attributes(item)))
        .collect();
    let submodules = items.iter().filter_map(|item| match item {
        Item::Mod(module) => Some(module),
        _ => None,
    });
    let submodules: Vec<&ItemMod> = submodules.collect();
    let mut reading = Reading {
        name: &name,
        children: submodules
            .iter()
            .map(|module| module.ident.to_string())
            .collect(),
        relative: Vec::new(),
        module: Module {
            file: here.file.clone(),
            ..Module::default()
        },
    };
    for item in &items {
        reading.module.defines.extend(defined(item));
        if !matches!(item, Item::Mod(_)) {
            reading.visit_item(item);
        }
    }
    reading.follow_imports();
    modules.insert(name.clone(), reading.module);
    for module in submodules {
        let ident = module.ident.to_string();
        let mut child = name.clone();
        child.push(ident.clone());
        let folder = children.join(&ident);
        match &module.content {
            Some((_, inner)) => self::items(here, inner, &folder, child, modules)?,
            None => {
                let path = match path_attribute(&module.attrs) {
                    Some(given) => here.folder.join(given),
                    None => {
                        let candidates =
                            [children.join(format!("{ident}.rs")), folder.join("mod.rs")];
                        let found = candidates.into_iter().find(|file| file.is_file());
                        found.ok_or_else(|| format!("{}: no file of `mod {ident}`", here.file))?
                    }
                };
                file(here.src, &path, &folder, child, modules)?;
            }
        }
    }
    Ok(())
}

/// Collects what one module names.
struct Reading<'a> {
    name: &'a Names,
    children: BTreeSet<String>,
    /// Paths that may begin with an imported name.
    relative: Vec<Names>,
    module: Module,
}

impl Reading<'_> {
    /// `auth::Verifier` behind `use crate::auth`.
    fn follow_imports(&mut self) {
        for written in std::mem::take(&mut self.relative) {
            if let Some(original) = self.module.imports.get(&written[0]) {
                self.module.paths.push([original, &written[1..]].concat());
            }
        }
    }

    /// A path as written, from the crate's root; none where it leads out of the crate.
    fn absolute(&self, written: &[String]) -> Option<Names> {
        let (first, mut rest) = written.split_first()?;
        let mut base = match first.as_str() {
            "crate" => Names::new(),
            "self" | "super" => self.name.clone(),
            child if self.children.contains(child) => {
                rest = written;
                self.name.clone()
            }
            _ => return None,
        };
        if first == "super" {
            base.pop();
        }
        while let Some((next, behind)) = rest.split_first().filter(|(next, _)| *next == "super") {
            debug_assert_eq!(next, "super");
            base.pop();
            rest = behind;
        }
        base.extend(rest.iter().cloned());
        Some(base)
    }

    fn import(&mut self, tree: &UseTree, mut written: Names) {
        match tree {
            UseTree::Path(path) => {
                written.push(path.ident.to_string());
                self.import(&path.tree, written);
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.import(tree, written.clone());
                }
            }
            UseTree::Glob(_) => {
                if let Some(path) = self.absolute(&written) {
                    self.module.globs.push(path.clone());
                    self.module.paths.push(path);
                }
            }
            UseTree::Name(name) => self.named(written, &name.ident.to_string(), None),
            UseTree::Rename(name) => {
                let (original, alias) = (name.ident.to_string(), name.rename.to_string());
                self.named(written, &original, Some(alias));
            }
        }
    }

    fn named(&mut self, mut written: Names, name: &str, alias: Option<String>) {
        if name != "self" {
            written.push(name.to_owned());
        }
        let alias = alias.or_else(|| written.last().cloned());
        if let (Some(path), Some(alias)) = (self.absolute(&written), alias) {
            self.module.imports.insert(alias, path.clone());
            self.module.paths.push(path);
        }
    }
}

impl<'ast> Visit<'ast> for Reading<'_> {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.import(&item.tree, Names::new());
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let written: Names = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string())
            .collect();
        match self.absolute(&written) {
            Some(path) => self.module.paths.push(path),
            None => self.relative.push(written),
        }
        visit::visit_path(self, path);
    }

    // `pub(in crate::store)` names no dependency.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}
}

fn defined(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        _ => return None,
    };
    Some(ident.to_string())
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string() == "test",
        _ => false,
    })
}

fn path_attribute(attributes: &[Attribute]) -> Option<PathBuf> {
    attributes
        .iter()
        .find_map(|attribute| match &attribute.meta {
            Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
                Expr::Lit(literal) => match &literal.lit {
                    Lit::Str(text) => Some(PathBuf::from(text.value())),
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        })
}
