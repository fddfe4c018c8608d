/* general.c - general purpose functions and interfaces (PKCS#11 3.2, sections 5.4 and 5.5). */
#include "state.h"
#include "text.h"

#define ENTRY(name) .name = name,

static CK_FUNCTION_LIST functions_2_40 = {.version = {2, 40}, CV_FUNCTIONS_2_40(ENTRY)};

static CK_FUNCTION_LIST_3_0 functions_3_0 = {.version = {3, 0},
                                             CV_FUNCTIONS_2_40(ENTRY) CV_FUNCTIONS_3_0(ENTRY)};

static CK_FUNCTION_LIST_3_2 functions_3_2 = {
    .version = {3, 2}, CV_FUNCTIONS_2_40(ENTRY) CV_FUNCTIONS_3_0(ENTRY) CV_FUNCTIONS_3_2(ENTRY)};

static CK_UTF8CHAR interface_name[] = "PKCS 11";

/* The first is the one an application gets that names none. */
static CK_INTERFACE interfaces[] = {
    {interface_name, &functions_3_2, 0},
    {interface_name, &functions_3_0, 0},
    {interface_name, &functions_2_40, 0},
};
#define INTERFACES (sizeof interfaces / sizeof interfaces[0])

CK_RV C_Initialize(CK_VOID_PTR arguments)
{
    return cv_module_start(arguments);
}

CK_RV C_Finalize(CK_VOID_PTR reserved)
{
    return reserved != NULL ? CKR_ARGUMENTS_BAD : cv_module_stop();
}

static CK_RV get_info(CK_INFO *info)
{
    if (info == NULL)
        return CKR_ARGUMENTS_BAD;
    memset(info, 0, sizeof *info);
    info->cryptokiVersion = functions_3_2.version;
    cv_pad(info->manufacturerID, sizeof info->manufacturerID, CV_MANUFACTURER);
    cv_pad(info->libraryDescription, sizeof info->libraryDescription, "Conclave client");
    info->libraryVersion = (CK_VERSION){CV_LIBRARY_MAJOR, CV_LIBRARY_MINOR};
    return CKR_OK;
}

CK_RV C_GetInfo(CK_INFO_PTR info)
{
    CV_GUARDED(get_info(info));
}

/* The three below work before C_Initialize, as the standard has it. */

CK_RV C_GetFunctionList(CK_FUNCTION_LIST_PTR_PTR list)
{
    if (list == NULL)
        return CKR_ARGUMENTS_BAD;
    *list = &functions_2_40;
    return CKR_OK;
}

CK_RV C_GetInterfaceList(CK_INTERFACE_PTR list, CK_ULONG_PTR count)
{
    if (count == NULL)
        return CKR_ARGUMENTS_BAD;
    CK_ULONG capacity = *count;
    *count = INTERFACES;
    if (list == NULL)
        return CKR_OK;
    if (capacity < INTERFACES)
        return CKR_BUFFER_TOO_SMALL;
    memcpy(list, interfaces, sizeof interfaces);
    return CKR_OK;
}

CK_RV C_GetInterface(CK_UTF8CHAR_PTR name, CK_VERSION_PTR version, CK_INTERFACE_PTR_PTR interface,
                     CK_FLAGS flags)
{
    if (interface == NULL)
        return CKR_ARGUMENTS_BAD;
    for (size_t i = 0; i < INTERFACES; i++) {
        const CK_VERSION *offered = interfaces[i].pFunctionList;
        if (name != NULL && strcmp((const char *)name, (const char *)interface_name) != 0)
            continue;
        if (version != NULL && (version->major != offered->major ||
                                version->minor != offered->minor))
            continue;
        if ((interfaces[i].flags & flags) != flags)
            continue;
        *interface = &interfaces[i];
        return CKR_OK;
    }
    return CKR_FUNCTION_FAILED;
}
