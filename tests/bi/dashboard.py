"""Imports the dashboard into a running Superset, opens it in a browser, and holds each chart to its query in charts.sql.

It prints what differs, and leaves a screenshot. From the environment: SUPERSET (its address; user and password are admin),
CLICKHOUSE (host:port of its HTTP), CLICKHOUSE_PASSWORD (of lotline_bi), CHROMIUM (the browser), CHROMIUM_ENV (what it needs in
its environment besides, NAME=VALUE lines: its libraries are for nobody else here), SCREENSHOT (to write).
"""

import io
import json
import os
import pathlib
import re
import sys
import zipfile

import clickhouse_connect
import requests
from playwright.sync_api import Page, Response, sync_playwright

SUPERSET = os.environ["SUPERSET"]
CLICKHOUSE = os.environ["CLICKHOUSE"]
PASSWORD = os.environ["CLICKHOUSE_PASSWORD"]
HERE = pathlib.Path(__file__).parent
EXPORT = HERE / "../../compose/superset"
DATABASE = "databases/Lotline.yaml"
SHIPPED = "@localhost:8123/"
WAIT_SECONDS = 240


def zipped() -> bytes:
    """The dashboard as Superset takes it, with this server's address."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for file in sorted(EXPORT.rglob("*.yaml")):
            name, text = file.relative_to(EXPORT).as_posix(), file.read_text()
            if name == DATABASE:
                assert SHIPPED in text
                text = text.replace(SHIPPED, f"@{CLICKHOUSE}/")
            archive.writestr("superset/" + name, text)
    return out.getvalue()


def api(session: requests.Session, method: str, path: str, **request) -> dict:
    answer = session.request(method, SUPERSET + "/api/v1" + path, timeout=WAIT_SECONDS, **request)
    assert answer.ok, f"{path}: {answer.text}"
    return answer.json()


def import_dashboard() -> dict[int, str]:
    """Returns the titles of the dashboard's charts by their ids."""
    with requests.Session() as session:
        login = api(session, "POST", "/security/login", json={"username": "admin", "password": "admin", "provider": "db"})
        session.headers["Authorization"] = "Bearer " + login["access_token"]
        api(
            session,
            "POST",
            "/dashboard/import/",
            files={"formData": ("lotline.zip", zipped(), "application/zip")},
            data={"overwrite": "true", "passwords": json.dumps({DATABASE: PASSWORD})},
        )
        return {chart["id"]: chart["slice_name"] for chart in api(session, "GET", "/dashboard/lotline/charts")["result"]}


def render(page: Page, charts: dict[int, str], faults: list[str]) -> dict[str, list[dict]]:
    """Opens the dashboard, and returns what each chart was given to show."""
    answers: dict[str, Response] = {}

    def keep(response: Response) -> None:
        if "/api/v1/chart/data" in response.url:
            chart = response.request.post_data_json["form_data"].get("slice_id")  # a filter asks too
            if chart in charts:
                answers[charts[chart]] = response

    page.set_default_timeout(120_000)  # the first page takes long where others work beside it
    page.on("response", keep)
    page.on("pageerror", lambda error: faults.append(f"an error in the page: {error}"))
    # Not by the page that asks for it: that page reports what it does, as nobody yet, and where the answer to such a report comes
    # after the login's, its cookie takes the login's place.
    answer = page.request.post(SUPERSET + "/login/", form={"username": "admin", "password": "admin"})
    assert answer.url.endswith("/superset/welcome/"), f"the login leads to {answer.url}"
    page.goto(SUPERSET + "/superset/dashboard/lotline/?standalone=1")
    for _ in range(WAIT_SECONDS):
        page.wait_for_timeout(1000)
        if len(answers) == len(charts) and not page.locator("[data-test=loading-indicator]").count():
            break
    page.wait_for_timeout(2000)  # the charts' animation
    page.screenshot(path=os.environ["SCREENSHOT"], full_page=True)
    faults += [f"the page shows: {alert}" for alert in page.locator("[role=alert], .ant-alert-error").all_inner_texts()]
    faults += [f"{title}: not asked for" for title in charts.values() if title not in answers]
    faults += [f"{title}: {response.text()}" for title, response in answers.items() if not response.ok]
    return {title: response.json()["result"][0]["data"] for title, response in answers.items() if response.ok}


def expected(titles: set[str]) -> dict[str, list[dict]]:
    """What ClickHouse answers to the queries in charts.sql, each below its chart's title."""
    host, port = CLICKHOUSE.split(":")
    client = clickhouse_connect.get_client(
        host=host, port=int(port), username="lotline_bi", password=PASSWORD, database="lotline"
    )
    queries = dict(re.findall(r"^-- (.*)\n((?:[^-].*\n)+)", (HERE / "charts.sql").read_text(), re.MULTILINE))
    assert set(queries) == titles, f"charts.sql and the dashboard differ in {set(queries) ^ titles}"
    return {title: list(client.query(sql).named_results()) for title, sql in queries.items()}


def comparable(rows: list[dict]) -> list[str]:
    """Rows in one order: their values by column, a map's by key, without what is missing; numbers to nine digits."""
    lines = []
    for row in rows:
        flat = {
            k: v for name, value in row.items() for k, v in (value if isinstance(value, dict) else {name: value}).items()
        }
        numbers = {k: float(f"{v:.9g}") if isinstance(v, (int, float)) else v for k, v in flat.items() if v is not None}
        lines.append(json.dumps(numbers, sort_keys=True))
    return sorted(lines)


def main() -> int:
    faults: list[str] = []
    charts = import_dashboard()
    with sync_playwright() as playwright:
        env = os.environ | dict(line.split("=", 1) for line in os.environ["CHROMIUM_ENV"].splitlines())
        browser = playwright.chromium.launch(executable_path=os.environ["CHROMIUM"], args=["--no-sandbox"], env=env)
        shown = render(browser.new_page(viewport={"width": 1600, "height": 2000}), charts, faults)
        browser.close()
    for title, want in expected(set(charts.values())).items():
        got = shown.get(title, [])
        if not got:
            faults.append(f"{title}: no data")
        elif comparable(got) != comparable(want):
            faults.append(
                f"{title}: shows {len(got)} rows as {comparable(got)[:3]}; SQL has {len(want)} as {comparable(want)[:3]}"
            )
    print("\n".join(faults) or f"{len(charts)} charts show what SQL says")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
