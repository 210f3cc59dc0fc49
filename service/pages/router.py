"""All pages, as one router for the application.

They expect the use cases as `app.state.desk`.
"""

from fastapi import APIRouter

from service.pages import audit_form, audit_pages, open_pages, report_files

router = APIRouter()
for part in (open_pages, audit_form, audit_pages, report_files):
    router.include_router(part.router)
