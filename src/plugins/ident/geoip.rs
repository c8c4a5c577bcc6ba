//! Notes where a client is, by a GeoIP database: country, continent, city, network, distance.
//!
//! ```text
//! ident/geoip
//! ident/geoip db_dir /var/lib/GeoIP distance 192.0.2.25 too_far 2500
//! ```
//! - `db_dir` (/usr/local/share/GeoIP): where the databases are, as MaxMind's geoipupdate or others write them (format MMDB 2). The first
//!   of `GeoIP2-City.mmdb`, `GeoLite2-City.mmdb`, `GeoIP2-Country.mmdb`, `GeoLite2-Country.mmdb` that is there is used, and
//!   `GeoLite2-ASN.mmdb` for the number of the network, if it is there. A relative path starts at the configuration directory.
//! - `distance` (an address; none): where we are: the distance of each client to it is noted. Give a public address of ours. It
//!   needs a City database.
//! - `too_far` (kilometres; 0, nobody): a client that is farther away gets karma -1.
//! - `add_headers` (0 or 1; 1): the fields `X-GeoIP-Country` (its code), `X-GeoIP-Continent`, `X-GeoIP-City` and `X-GeoIP-ASN` in the
//!   message, those that are known. What others wrote in fields of these names is taken out.
//!
//! What is found other plugins can use (`greylisting`), and the record shows it. Nobody is refused here.
//!
//! The databases are opened at connect, and only if there is a client address; they are mapped, not read. Replace them by renaming a new
//! one over the old, as geoipupdate does: a file that is written to in place, or cut, can end sessions that use it.
//!
//! Not asked: about clients that may relay or are whitelisted, if that is known already: list it after `relay`.
//!
//! Errors: no database, or one that cannot be read. As in qpsmtpd mail goes on then without a place, unless the line says
//! `on_error defer`. An address that the database does not know, as those of private networks, is no error and gives no place;
//! so is one of IPv6 in a database of IPv4.
//!
//! Differs from qpsmtpd: only MMDB (the older `GeoIP.dat` is no longer made); IPv6; forged fields are taken out.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use maxminddb::{MaxMindDbError, Mmap, Reader};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::note_in_header;
use crate::config::{ConfigError, Settings as Given};
use crate::hook::{Answer, Change, ClientPlace, Connect, Content, Entry, Hook, OnError, Plugin, Ruling, Trouble};
use crate::smtp::escape::safe;
use crate::sys::map;
use crate::world::World;

/// The catalogue's entry.
pub static ENTRY: Entry = Entry {
    spares_immune: true,
    on_error: OnError::Decline,
    ..Entry::plugin("ident/geoip", &[Hook::Connect, Hook::DataPost], crate::manual!("geoip.rs"), build)
};

const PLACES: [&str; 4] = ["GeoIP2-City.mmdb", "GeoLite2-City.mmdb", "GeoIP2-Country.mmdb", "GeoLite2-Country.mmdb"];
const NETWORKS: &str = "GeoLite2-ASN.mmdb";
/// Octets of a text of the database that are kept.
const TEXT_OCTETS_MAX: usize = 100;
const EARTH_RADIUS_KM: f64 = 6371.0;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    db_dir: String,
    /// Our address; empty: none.
    distance: String,
    /// Kilometres; 0: nobody.
    too_far: f64,
    add_headers: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { db_dir: "/usr/local/share/GeoIP".into(), distance: String::new(), too_far: 0.0, add_headers: true }
    }
}

fn build(given: Given, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    let origin = given.origin().clone();
    let settings: Settings = given.read()?;
    let fault = |text: String| origin.error(text).of_plugin(ENTRY.name);
    let here = match settings.distance.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|_| fault(format!("distance {text:?} is no address of ours")))?),
    };
    if !(settings.too_far >= 0.0 && settings.too_far.is_finite()) {
        return Err(fault(format!("too_far {} is no number of kilometres", settings.too_far)));
    }
    if settings.too_far > 0.0 && here.is_none() {
        return Err(fault(String::from("too_far says nothing without distance, an address of ours")));
    }
    let dir = world.config.resolve(&settings.db_dir).map_err(|error| error.or_at(&origin))?;
    Ok(Box::new(GeoIp { dir, here, settings }))
}

struct GeoIp {
    dir: PathBuf,
    here: Option<IpAddr>,
    settings: Settings,
}

impl Plugin for GeoIp {
    fn connect(&mut self, at: &Connect<'_>) -> Answer {
        let Some(ip) = at.session.connection.remote_ip else {
            return Ok(Ruling::skip("no client address"));
        };
        let Some(place) = self.place(ip)? else {
            return Ok(Ruling::skip("not in the database"));
        };
        let mut ruling = Ruling::decline().because(evidence(&place));
        let limit = self.settings.too_far;
        if limit > 0.0 && place.distance_km.is_some_and(|distance| distance > limit) {
            ruling = ruling.change(Change::AdjustKarma(-1)).because(format!("farther away than {limit} km"));
        }
        Ok(ruling.change(Change::NotePlace(place)))
    }

    fn data_post(&mut self, at: &Content<'_>) -> Answer {
        if !self.settings.add_headers {
            return Ok(Ruling::decline());
        }
        let place = at.session.place.clone().unwrap_or_default();
        note_in_header(
            at,
            &[
                ("X-GeoIP-Country", place.country),
                ("X-GeoIP-Continent", place.continent),
                ("X-GeoIP-City", place.city),
                ("X-GeoIP-ASN", place.asn.map(|number| number.to_string())),
            ],
        )
    }

    fn check(&mut self) -> Vec<String> {
        let mut faults = Vec::new();
        match self.places() {
            Err(trouble) => faults.push(trouble.0),
            Ok(database) if self.here.is_some_and(|here| database.location(here).ok().flatten().is_none()) => {
                faults.push(format!(
                    "{} has no location of {}: no distance is ever noted",
                    database.path.display(),
                    self.settings.distance
                ));
            }
            Ok(_) => {}
        }
        faults.extend(Database::open(self.dir.join(NETWORKS)).err().map(|trouble| trouble.0));
        faults
    }
}

impl GeoIp {
    fn place(&self, ip: IpAddr) -> Result<Option<ClientPlace>, Trouble> {
        let database = self.places()?;
        let found: Option<Place> = database.look_up(ip)?;
        let asn = match Database::open(self.dir.join(NETWORKS))? {
            Some(networks) => networks.look_up::<Network>(ip)?.and_then(|network| network.autonomous_system_number),
            None => None,
        };
        if found.is_none() && asn.is_none() {
            return Ok(None);
        }
        let found = found.unwrap_or_default();
        let distance_km = match (found.location.point(), self.here) {
            (Some(there), Some(here)) => database.location(here)?.map(|here| kilometres(here, there)),
            _ => None,
        };
        // Where its owner is registered, for addresses that could be anywhere.
        let country = if found.country.iso_code.is_some() { found.country } else { found.registered_country };
        let text = |text: Option<String>| text.map(|text| safe(&text, TEXT_OCTETS_MAX)).filter(|text| !text.is_empty());
        Ok(Some(ClientPlace {
            country: text(country.iso_code),
            country_name: text(country.names.en),
            continent: text(found.continent.code),
            city: text(found.city.names.en),
            asn,
            distance_km,
        }))
    }

    /// The first database of places that is there.
    fn places(&self) -> Result<Database, Trouble> {
        for name in PLACES {
            if let Some(database) = Database::open(self.dir.join(name))? {
                return Ok(database);
            }
        }
        Err(Trouble::new(format!("{}: there is none of {}", self.dir.display(), PLACES.join(", "))))
    }
}

struct Database {
    path: PathBuf,
    reader: Reader<Mmap>,
}

impl Database {
    /// `None`: there is no such file.
    fn open(path: PathBuf) -> Result<Option<Self>, Trouble> {
        match map::database(&path) {
            Ok(reader) => Ok(Some(Self { path, reader })),
            Err(MaxMindDbError::Io(error)) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(trouble(&path, &error)),
        }
    }

    /// `None`: the address is not in it.
    fn look_up<T: DeserializeOwned>(&self, ip: IpAddr) -> Result<Option<T>, Trouble> {
        if ip.is_ipv6() && self.reader.metadata().ip_version == 4 {
            return Ok(None);
        }
        let found = self.reader.lookup(ip).and_then(|found| found.decode());
        found.map_err(|error| trouble(&self.path, &error))
    }

    fn location(&self, ip: IpAddr) -> Result<Option<Point>, Trouble> {
        Ok(self.look_up::<Place>(ip)?.and_then(|place| place.location.point()))
    }
}

fn trouble(path: &Path, error: &MaxMindDbError) -> Trouble {
    Trouble::new(format!("{}: {}", path.display(), safe(&error.to_string(), 400)))
}

/// Degrees north and east.
type Point = (f64, f64);

#[derive(Default, Deserialize)]
#[serde(default)]
struct Place {
    continent: Continent,
    country: Country,
    registered_country: Country,
    city: City,
    location: Location,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Continent {
    code: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Country {
    iso_code: Option<String>,
    names: Names,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct City {
    names: Names,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Names {
    en: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Location {
    latitude: Option<f64>,
    longitude: Option<f64>,
}

impl Location {
    fn point(&self) -> Option<Point> {
        self.latitude.zip(self.longitude)
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Network {
    autonomous_system_number: Option<u32>,
}

/// Along the surface, the earth being a ball.
fn kilometres(one: Point, other: Point) -> f64 {
    let half = |from: f64, to: f64| ((to - from).to_radians() / 2.0).sin().powi(2);
    let (north, east) = (half(one.0, other.0), half(one.1, other.1));
    let chord = north + east * one.0.to_radians().cos() * other.0.to_radians().cos();
    2.0 * EARTH_RADIUS_KM * chord.sqrt().min(1.0).asin()
}

fn evidence(place: &ClientPlace) -> String {
    let mut parts: Vec<String> = Vec::new();
    parts.extend([&place.country, &place.country_name, &place.continent, &place.city].into_iter().flatten().cloned());
    parts.extend(place.asn.map(|number| format!("AS{number}")));
    parts.extend(place.distance_km.map(|distance| format!("{distance:.0} km away")));
    parts.join(", ")
}

#[cfg(test)]
#[path = "geoip_tests.rs"]
mod tests;
